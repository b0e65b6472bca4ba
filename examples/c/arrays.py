#!/usr/bin/env python3
"""Shows what arrives when NumPy arrays are passed to a socket as they are.

    arrays.py COMMAND...      a driver that puts every atom on a spring of 0.04 hartree/bohr^2; {port} in an
                              argument is where this server listens: arrays.py ./driver localhost:{port}

Sends each array as the positions of POSDATA, with `socket.sendall(array)` as i-PI did in 2016, then with
`socket.sendall(array.tobytes())` as i-PI 3.3.1 does. The second result has a line only if it differs. Dividing the
received forces by -0.04 gives the positions that the driver has read.
"""

import contextlib
import socket
import struct
import subprocess
import sys

import numpy as np

SPRING = 0.04
CUBE = 10.0 * np.eye(3)
R = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # bohr, two atoms


def header(name):
    return name.ljust(12).encode()


def hear(peer, size):
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def ask(peer, positions, cell=CUBE, natoms=struct.pack("<i", len(R))):
    """The positions that the driver has read."""
    peer.sendall(header("STATUS"))
    while (status := hear(peer, 12)) == header("NEEDINIT"):
        peer.sendall(header("INIT") + struct.pack("<ii", 0, 1) + b" " + header("STATUS"))
    assert status == header("READY"), status
    peer.sendall(header("POSDATA"))
    peer.sendall(cell)
    peer.sendall(np.linalg.inv(CUBE))
    peer.sendall(natoms)
    peer.sendall(positions)  # the array itself: no list, no loop, no text
    peer.sendall(header("GETFORCE"))
    with contextlib.suppress(OSError):  # the driver may have refused it and be gone
        peer.shutdown(socket.SHUT_WR)
    assert hear(peer, 12) == header("FORCEREADY")
    hear(peer, 8 + 4)
    forces = np.frombuffer(hear(peer, 24 * len(R))).reshape(-1, 3)
    return forces / -SPRING


CASES = [
    ("float64, C order", dict(positions=R)),
    ("a slice, r[::2]", dict(positions=np.repeat(R, 2, axis=0)[::2])),
    ("the slice, ascontiguousarray", dict(positions=np.ascontiguousarray(np.repeat(R, 2, axis=0)[::2]))),
    ("Fortran order, asfortranarray(r)", dict(positions=np.asfortranarray(R))),
    ("(3, N) in Fortran order, r.T", dict(positions=R.T)),
    ("(3, N) in C order, r.T.copy()", dict(positions=R.T.copy())),
    ("int64", dict(positions=R.astype(np.int64))),
    ("objects", dict(positions=R.astype(object))),
    ("float32", dict(positions=R.astype(np.float32))),
    ("big-endian positions", dict(positions=R.astype(">f8"))),
    (
        "all of it big-endian",
        dict(positions=R.astype(">f8"), cell=CUBE.astype(">f8"), natoms=struct.pack(">i", len(R))),
    ),
    ("a count of 8 bytes", dict(positions=R, natoms=struct.pack("<q", len(R)))),
]


def tell(listener, command, case):
    """The result of sending this array."""
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(10)
        try:
            arrived = ask(peer, **case)
        except ValueError as error:
            came = f"Python refuses: {error}"
        except (EOFError, ConnectionError):
            came = None
        else:
            numbers = np.array2string(arrived.ravel(), formatter={"float": "{:.3g}".format})
            came = "arrives" if np.array_equal(arrived, R) else f"OTHERS ARRIVE: {numbers}"
    said = driver.communicate(timeout=10)[1].splitlines()
    return came or f"refused: {said[0] if said else 'without a word'}"


def kind(text):
    """The result, without the reason."""
    return text.split(":")[0]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        port = str(listener.getsockname()[1])
        command = [word.replace("{port}", port) for word in sys.argv[1:]]
        for name, case in CASES:
            lent = tell(listener, command, case)
            print(f"{name:36} {lent}", flush=True)
            copied = tell(listener, command, {**case, "positions": case["positions"].tobytes()})
            if kind(copied) != kind(lent):
                print(f"{'  its tobytes()':36} {copied}", flush=True)


if __name__ == "__main__":
    main()
