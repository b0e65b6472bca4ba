/* forcewire for C: both sides of the i-PI protocol, and the functions of i-PI's sockets.c again.

   Made from src/c by tests/c/header.rs: FORCEWIRE_OVERWRITE=1 cargo test -p forcewire-c header

   Atomic units throughout: bohr, hartree, hartree/bohr. Arrays of atoms are double[natoms][3],
   x y z of one atom after the other. Every call that can fail returns a forcewire_status_t. */

#ifndef FORCEWIRE_H
#define FORCEWIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Ask the server for INIT once a connection.
#define FORCEWIRE_INIT_ONCE 1

// Ask the server for INIT before every structure.
#define FORCEWIRE_INIT_EVERY_STEP 2

// Accept the server's numbers even if all of them are subnormal, as integers sent in place of
// doubles are, or are lengths only with their bytes reversed. Only a structure whose coordinates
// are all below 1e-10 bohr needs this flag, which is very rare.
#define FORCEWIRE_TRUST_NUMBER_FORMAT 32

// Send STATUS, POSDATA, STATUS, GETFORCE, as i-PI before 3.2 and ASE do. By default POSDATA and
// GETFORCE are sent together, as i-PI does today.
#define FORCEWIRE_CLASSIC 1

// Like FORCEWIRE_CLASSIC, without any other STATUS: ABINIT 9.6 and pysisyphus need that.
#define FORCEWIRE_STRICT 2

// Wrap atoms into the cell by whole lattice vectors before they are sent. LAMMPS needs this.
#define FORCEWIRE_FOLD 16

// The driver is connected.
#define FORCEWIRE_UP 1

// The driver waits for positions.
#define FORCEWIRE_READY 2

// The driver waits for INIT.
#define FORCEWIRE_NEEDS_INIT 4

// The driver has computed forces and waits until it is asked for them.
#define FORCEWIRE_HAS_DATA 8

// The driver owes an answer: it is computing, or has not answered STATUS yet.
#define FORCEWIRE_BUSY 16

// For forcewire_on_error(): print one line that says what happened and end the program, with the
// forcewire_status_t as its exit status. This is the default.
#define FORCEWIRE_EXIT 0

// For forcewire_on_error(): let the call return, with forcewire_error() no longer FORCEWIRE_OK. If
// readbuffer() fails, the buffer is filled with bytes of 255, which is NaN as a real, -1 as an
// integer, and no header of the protocol.
#define FORCEWIRE_CONTINUE 1

// The size of a handle in words of 8 bytes. A 32-bit machine or a build without sockets uses less
// of it.
#define FORCEWIRE_HANDLE 192

// Allow the number of atoms to change from one structure to the next.
#define FORCEWIRE_CHANGING_ATOMS 4

// Allow infinite numbers and NaN, in both directions.
#define FORCEWIRE_NOT_FINITE_TOO 8

// What a call returns. forcewire_driver_error() and the like return a text with the peer's name
// and what to do.
typedef enum {
  // No error.
  FORCEWIRE_OK = 0,
  // An argument is invalid: NULL, a length that does not fit, a cell without a volume. The call
  // did nothing.
  FORCEWIRE_INVALID_ARGUMENT = 1,
  // The handle is not connected.
  FORCEWIRE_NOT_CONNECTED = 2,
  // The peer closed the connection between two messages. ASE's server ends this way.
  FORCEWIRE_CLOSED = 3,
  // The peer closed the connection in the middle of a message.
  FORCEWIRE_BROKEN = 4,
  // The peer sent or accepted nothing for too long. Repeat the call with the same arguments: it
  // continues where it stopped.
  FORCEWIRE_TIMED_OUT = 5,
  // There is no connection, or it was lost.
  FORCEWIRE_CONNECTION = 6,
  // The peer violated the protocol. Close the connection.
  FORCEWIRE_PROTOCOL = 7,
  // The call does not fit the state of the conversation, or an unfinished call has to be
  // repeated first, with the same arrays. The call did nothing.
  FORCEWIRE_OUT_OF_TURN = 8,
  // The peer announced more atoms than there is room for. Repeat the call with longer arrays, or
  // close the connection.
  FORCEWIRE_NO_ROOM = 9,
  // A number is infinite or NaN.
  FORCEWIRE_NOT_FINITE = 10,
  // The potential failed. No reply was sent: close the connection.
  FORCEWIRE_POTENTIAL = 11,
  // The number of atoms differs from that of the previous structure. FORCEWIRE_CHANGING_ATOMS
  // would allow this.
  FORCEWIRE_ATOMS_CHANGED = 12,
  // The library failed internally and closed the connection. This is a defect of forcewire:
  // please report it, with the lines on the error output.
  FORCEWIRE_INTERNAL = 13,
} forcewire_status_t;

// What a driver has received.
typedef enum {
  // Positions have arrived: compute, then reply.
  FORCEWIRE_EVENT_POSITIONS = 0,
  // INIT has arrived: forcewire_driver_init_text() returns its text. Receive again.
  FORCEWIRE_EVENT_INIT = 1,
  // The server needs no more forces.
  FORCEWIRE_EVENT_EXIT = 2,
  // The server closed the connection between two messages, as ASE's does at its end. i-PI drops
  // a driver in the same way, so it may be worth connecting again.
  FORCEWIRE_EVENT_CLOSED = 3,
} forcewire_event_kind_t;

// A driver: the side that computes forces, and its connection to a server.
//
// The caller provides the memory, for instance on the stack; the library owns its contents. Only
// one thread may use a handle at a time; different handles share nothing. A handle must not be
// copied.
typedef struct {
  uint64_t memory[FORCEWIRE_HANDLE];
} forcewire_driver_t;

// A connection that the caller has made, for instance over a serial line, lwIP or TLS.
//
// `recv` and `send` move at least one byte and return how many they moved. `recv` returns 0 after
// the peer has closed its side. A negative number is an error: the library's call then returns
// FORCEWIRE_CONNECTION, or FORCEWIRE_TIMED_OUT if the number is -FORCEWIRE_TIMED_OUT. After
// FORCEWIRE_TIMED_OUT the same call with the same arguments continues where it stopped.
//
// `owed` is true if a silent peer is late: it is in the middle of a message, or owes an answer
// that needs no computation.
//
// `flush` may be NULL. Otherwise the library calls it at the end of each message, and `send` may
// keep the pieces until then. It returns 0 on success. Without it each piece becomes a separate
// TCP segment, and i-PI drops a driver whose answer to STATUS arrives in two.
typedef struct {
  // The first argument of the functions.
  void *context;
  ptrdiff_t (*recv)(void *context, void *bytes, size_t size, bool owed);
  ptrdiff_t (*send)(void *context, const void *bytes, size_t size);
  int (*flush)(void *context);
} forcewire_transport_t;

// The periodic cell, bohr. The lattice vectors a, b, c are the columns, as on the wire: h[i][j] is
// component i of vector j, and a point with fractional coordinates s is at r = h s. A box of 10
// bohr is {{{10, 0, 0}, {0, 10, 0}, {0, 0, 10}}} in either convention. For a triclinic cell i-PI
// sends an upper triangle.
typedef struct {
  double h[3][3];
} forcewire_cell_t;

// What a driver has received, with its counts.
typedef struct {
  forcewire_event_kind_t kind;
  // The replica (bead) that the last INIT named; 0 before any INIT.
  int32_t replica;
  // The number of atoms of the structure. With FORCEWIRE_NO_ROOM, the number that needs room.
  size_t natoms;
  forcewire_cell_t cell;
} forcewire_event_t;

// A potential's results besides the forces.
typedef struct {
  // Hartree.
  double energy;
  // W = -dU/de of a strain e, the sum of r_i f_j, hartree: all nine numbers, not divided by the
  // volume.
  double virial[3][3];
} forcewire_evaluation_t;

// A server: the side that asks for forces, and its connection to one driver.
//
// The caller provides the memory, for instance on the stack; the library owns its contents. Only
// one thread may use a handle at a time; different handles share nothing. A handle must not be
// copied.
typedef struct {
  uint64_t memory[FORCEWIRE_HANDLE];
} forcewire_server_t;

// The results of a structure besides its forces.
typedef struct {
  // Hartree.
  double energy;
  // Hartree, made symmetric, not divided by the volume.
  double virial[3][3];
  // How many bytes of extras the driver sent. The buffer holds as many of them as it had room
  // for when they arrived. A repeated call that continues in the middle of the extras needs a
  // buffer of the same size.
  size_t extras_size;
} forcewire_answer_t;

// Computes one structure. Positions are in bohr. Forces, hartree/bohr, and the evaluation are
// zeros at first; the function fills them. If it returns anything but 0, forcewire_driver_serve()
// ends with FORCEWIRE_POTENTIAL.
typedef int (*forcewire_potential_t)(void *context,
                                     const forcewire_cell_t *cell,
                                     const double (*positions)[3],
                                     double (*forces)[3],
                                     size_t natoms,
                                     forcewire_evaluation_t *evaluation);

// How to connect, and time limits, in seconds.
//
// A field of 0 means its default; NULL means all defaults. INFINITY means no limit. With less than
// a microsecond, a call makes a single attempt.
typedef struct {
  // How long to wait for the server to listen, or for the driver to connect. Default: a minute.
  double connect;
  // From the connection to the peer's first message. Default: no limit.
  double handshake;
  // For each message from its first byte to its last, in both directions, and for answers that
  // need no computation. Default: a minute.
  double message;
  // For the peer's computation: until the forces arrive, or the server's next message. Default:
  // no limit.
  double evaluation;
  // For a call as a whole. Default: no limit.
  double exchange;
  // How long the peer's host may be unreachable over TCP, because it or its network is off.
  // Default: five minutes.
  double keep_alive;
} forcewire_options_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Describes a status in a few words. Never returns NULL.
const char *forcewire_strerror(int status);

// Initializes a driver without a connection. Flags are 0, or a sum of FORCEWIRE_INIT_ONCE and the
// like.
//
// Without FORCEWIRE_INIT_ONCE or FORCEWIRE_INIT_EVERY_STEP a server sends neither INIT nor
// batches. All servers support such drivers.
forcewire_status_t forcewire_driver_init(forcewire_driver_t *driver, uint32_t flags);

// Connects the driver through the caller's functions. Nothing may have been sent to the server
// yet.
forcewire_status_t forcewire_driver_attach(forcewire_driver_t *driver, const forcewire_transport_t *transport);

// Answers the server until there is an event. Positions are in bohr, x y z of one atom after the
// other, with room for `capacity` atoms. Either all of them have arrived or the call fails. A
// second call before the reply fails with FORCEWIRE_OUT_OF_TURN.
forcewire_status_t forcewire_driver_receive(forcewire_driver_t *driver,
                                            double (*positions)[3],
                                            size_t capacity,
                                            forcewire_event_t *event);

// Replies to the positions received last: one force per atom, hartree/bohr, and extras, which may
// be NULL and 0. i-PI hangs on extras that are not a JSON object. The call waits until the server
// asks for the forces. The whole reply is checked before any byte is sent.
forcewire_status_t forcewire_driver_reply(forcewire_driver_t *driver,
                                          const forcewire_evaluation_t *evaluation,
                                          const double (*forces)[3],
                                          size_t natoms,
                                          const void *extras,
                                          size_t extras_size);

// The text of the last INIT and its size in bytes, without a NUL; at most 256 bytes are kept.
// Valid until the next call.
const char *forcewire_driver_init_text(const forcewire_driver_t *driver, size_t *size);

// Describes the last error, with the peer's name and what to do about it. Writes at most `size`
// bytes to `text`, including the NUL, and returns `text`.
const char *forcewire_driver_error(const forcewire_driver_t *driver, char *text, size_t size);

// Ends the connection, frees its memory and clears the last error. The driver can be connected
// again.
//
// If positions got no reply, the call first reads everything that the server sent with them, up to
// the next command: i-PI 3.3.1 hangs if a driver closes the connection with bytes unread. It waits
// for that command, which the server sends together with the positions, as long as for a message,
// but does not wait after FORCEWIRE_TIMED_OUT. It may call `recv` of the caller's transport.
// Connecting or adopting another socket closes the previous one in the same way.
forcewire_status_t forcewire_driver_close(forcewire_driver_t *driver);

// Initializes a server without a connection. Flags are 0, or a sum of FORCEWIRE_CLASSIC,
// FORCEWIRE_FOLD, FORCEWIRE_CHANGING_ATOMS and the like.
forcewire_status_t forcewire_server_init(forcewire_server_t *server, uint32_t flags);

// Connects the server through the caller's functions. Nothing may have been sent to the driver
// yet.
forcewire_status_t forcewire_server_attach(forcewire_server_t *server, const forcewire_transport_t *transport);

// Lets the driver compute one structure. The call asks for the driver's status, sends INIT
// (replica 0, one blank) if the driver needs it, sends the cell (upper triangular) and the
// positions in bohr, and receives the forces in hartree/bohr. Extras may be NULL and 0. The arrays
// must not share memory. Forces and answer are only valid if the call returns FORCEWIRE_OK.
//
// After FORCEWIRE_TIMED_OUT repeat the call with the same structure, or call
// forcewire_server_discard() before evaluating another one. Otherwise the call returns
// FORCEWIRE_OUT_OF_TURN.
forcewire_status_t forcewire_server_evaluate(forcewire_server_t *server,
                                             const forcewire_cell_t *cell,
                                             const double (*positions)[3],
                                             double (*forces)[3],
                                             size_t natoms,
                                             forcewire_answer_t *answer,
                                             void *extras,
                                             size_t extras_size);

// Asks the driver for its status, or waits for the answer to an earlier request. The status is a
// sum of FORCEWIRE_UP and the like, or 0 if the driver has gone.
forcewire_status_t forcewire_server_status(forcewire_server_t *server, uint32_t *status);

// Sends INIT to a driver that needs it, with the replica's number and a text. NULL and 0 mean a
// text of one blank.
forcewire_status_t forcewire_server_initialize(forcewire_server_t *server,
                                               int32_t replica,
                                               const char *text,
                                               size_t size);

// Sends one structure to a driver that is ready: the cell (upper triangular) and the positions,
// both in bohr.
forcewire_status_t forcewire_server_send_positions(forcewire_server_t *server,
                                                   const forcewire_cell_t *cell,
                                                   const double (*positions)[3],
                                                   size_t natoms);

// Waits until the driver has computed, and receives its answer as forcewire_server_evaluate()
// does.
forcewire_status_t forcewire_server_get_forces(forcewire_server_t *server,
                                               double (*forces)[3],
                                               size_t natoms,
                                               forcewire_answer_t *answer,
                                               void *extras,
                                               size_t extras_size);

// Waits for the forces that the driver owes and drops them. Does nothing if it owes none. After a
// time-out of forcewire_server_evaluate(), this call allows another structure to be evaluated.
// Returns FORCEWIRE_OUT_OF_TURN if the structure has been sent only in part: evaluate the same one
// again, or close the connection.
forcewire_status_t forcewire_server_discard(forcewire_server_t *server);

// Sends EXIT to the driver and waits until it has closed the connection.
forcewire_status_t forcewire_server_exit(forcewire_server_t *server);

// Describes the last error, with the peer's name and what to do about it. Writes at most `size`
// bytes to `text`, including the NUL, and returns `text`.
const char *forcewire_server_error(const forcewire_server_t *server, char *text, size_t size);

// Ends the connection, frees its memory and clears the last error. The server can be connected to
// another driver.
forcewire_status_t forcewire_server_close(forcewire_server_t *server);

// Computes what the server asks for until the server ends it: FORCEWIRE_OK after EXIT,
// FORCEWIRE_CLOSED if the server only closed the connection. Positions and forces have room for
// `capacity` atoms each, in different memory. On a host both may be NULL: the library then
// allocates arrays of the right size itself, and accepts batches.
//
// After FORCEWIRE_TIMED_OUT repeat the call with the same arrays and unchanged contents: it
// continues where it stopped and computes no structure twice. With other arrays it is refused
// (FORCEWIRE_OUT_OF_TURN).
//
// After FORCEWIRE_NO_ROOM repeat the call with longer arrays. With the library's arrays it means
// more than ten million atoms, or too little memory: close the connection.
//
// After FORCEWIRE_POTENTIAL, or if numbers or messages were refused, close the connection. All
// bytes that the server sent with the positions have been read by then: i-PI 3.3.1 hangs if a
// driver closes the connection with bytes unread.
forcewire_status_t forcewire_driver_serve(forcewire_driver_t *driver,
                                          forcewire_potential_t potential,
                                          void *context,
                                          double (*positions)[3],
                                          double (*forces)[3],
                                          size_t capacity);

// Connects the driver to a server at HOST:PORT, [IPV6]:PORT or unix:NAME; a NAME without a slash
// means i-PI's /tmp/ipi_NAME. Retries while nothing listens there. Not in libraries for firmware.
forcewire_status_t forcewire_driver_connect(forcewire_driver_t *driver,
                                            const char *address,
                                            const forcewire_options_t *options);

// Listens at an address, written as for forcewire_driver_connect(), until one driver has
// connected. A program with many drivers accepts them itself and calls forcewire_server_adopt()
// for each. Not in libraries for firmware.
forcewire_status_t forcewire_server_accept(forcewire_server_t *server,
                                           const char *address,
                                           const forcewire_options_t *options);

// Takes over a connected TCP or unix socket. The socket is closed with the driver, and also if
// this call fails.
forcewire_status_t forcewire_driver_adopt(forcewire_driver_t *driver, int socket, const forcewire_options_t *options);

// Takes over a connected TCP or unix socket. The socket is closed with the server, and also if
// this call fails.
forcewire_status_t forcewire_server_adopt(forcewire_server_t *server, int socket, const forcewire_options_t *options);

// Connects to a server and sets psockfd to the descriptor, or to -1. If inet is positive, connects
// over TCP (IPv4 or IPv6, without Nagle's algorithm) to this host and port. Otherwise connects to
// the unix socket whose path is the prefix followed by the host. Each text ends at a NUL; trailing
// blanks don't count.
//
// Makes one attempt, of at most ten seconds per address. A unix socket must belong to a process of
// the same user or of root, and must not be a symbolic link.
//
// Programs whose fsockets.f90 is older than the prefix pass four arguments. That makes no
// difference over TCP; for unix sockets, link them with
// -Wl,--defsym=open_socket=forcewire_open_socket_4.
void open_socket(int *psockfd, const int *inet, const int *port, const char *host, const char *prefix);

// open_socket() with i-PI's usual prefix, /tmp/ipi_.
void forcewire_open_socket_4(int *psockfd, const int *inet, const int *port, const char *host);

// open_socket() for Fortran programs without an interface: CALL open_socket(psockfd, inet, port,
// host) or CALL open_socket(psockfd, inet, port, host, prefix). The compiler passes the lengths of
// the texts after the other arguments, so no NUL is needed. Not for C.
void open_socket_(int *psockfd,
                  const int *inet,
                  const int *port,
                  const char *host,
                  size_t prefix_or_host_size,
                  size_t host_size,
                  size_t prefix_size);

// Sends all plen bytes of data. Does nothing if plen is 0.
void writebuffer(const int *psockfd, const void *data, const int *plen);

// writebuffer() for Fortran programs without an interface.
void writebuffer_(const int *psockfd, const void *data, const int *plen);

// Reads exactly plen bytes. Does nothing if plen is 0.
//
// If the stream ends before the first of 12 bytes, the status is FORCEWIRE_CLOSED: it ended
// between two messages. Anywhere else the status is FORCEWIRE_BROKEN.
void readbuffer(const int *psockfd, void *data, const int *plen);

// readbuffer() for Fortran programs without an interface.
void readbuffer_(const int *psockfd, void *data, const int *plen);

// Sets what open_socket(), readbuffer() and writebuffer() do on failure, in all threads:
// FORCEWIRE_EXIT or FORCEWIRE_CONTINUE.
void forcewire_on_error(int mode);

// Returns the status of the first call that failed in this thread since forcewire_clear_error(),
// with FORCEWIRE_CONTINUE.
forcewire_status_t forcewire_error(void);

// Describes the failure of forcewire_error(), with the peer's name. Writes at most `size` bytes to
// `text`, including the NUL, and returns `text`.
const char *forcewire_error_text(char *text, size_t size);

// Clears the failure of this thread.
void forcewire_clear_error(void);

// Sleeps for this many seconds. i-PI's sockets.c has this function, and its fsockets.f90 needs it.
void c_sleep(double seconds);

// Maps a segment of shared memory that i-PI 3.3 created, or returns NULL. i-PI's sockets.c has
// this function too.
void *shm_map(const char *name, long nbytes);

// Unmaps a segment that shm_map() mapped.
void shm_unmap(void *memory, long nbytes);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FORCEWIRE_H */
