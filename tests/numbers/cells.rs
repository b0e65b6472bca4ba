//! Cells without a volume, and left-handed ones. A server does not send a cell that drivers could
//! not use. A driver reports a received cell unchanged, because systems without a cell are sent
//! with zeros or any numbers, and only the potential knows whether it needs a volume.

use forcewire::potential::{Harmonic, IdealGas, LennardJones};
use forcewire::{
    Cell, Driver, Potential, PotentialError, ProtocolError, Request, Server, Status, Storage,
};

use forcewire_support::*;

/// Vectors in one plane, on one line, or zero.
const FLAT: [[f64; 9]; 6] = [
    [0.0; 9],
    [1.0; 9],
    [10.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.0],
    [10.0, 1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 8.0],
    [0.1, 0.4, 0.7, 0.2, 0.5, 0.8, 0.3, 0.6, 0.9],
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
];

/// The result of a driver with this potential, for two atoms in this cell.
fn computes(
    h: [f64; 9],
    potential: &mut impl Potential<Real = f64>,
) -> Result<Vec<u8>, PotentialError> {
    let mut structure = cube(vec![[0.25, 0.5, 0.75], [4.0, -1.0, 2.0]]);
    structure.h = h;
    let (mut driver, mut storage) = (Driver::new(), Storage::<f64, 2>::new());
    let told = pour(
        storage.receive(&mut driver),
        &mut posdata(&structure).as_slice(),
    );
    assert_eq!(told.0, Ok(structure.event()), "told as it is");
    storage.evaluate(driver.natoms(), driver.structures(), potential)?;
    let (replied, said) = pour(storage.reply(&mut driver), &mut { GETFORCE });
    assert_eq!(replied, Ok(()));
    Ok(said)
}

#[test]
fn a_flat_cell_is_the_potentials_business() {
    for h in FLAT {
        let mut argon = LennardJones::new(6.43, 0.000379, 16.0);
        assert_eq!(computes(h, &mut argon), Err(PotentialError::SingularCell));
        // These two potentials need no volume: the answer is the same in any cell.
        let gas = computes(h, &mut IdealGas::new());
        assert_eq!(gas, computes(golden().h, &mut IdealGas::new()));
        let springs = computes(h, &mut Harmonic::new(0.5));
        assert_eq!(springs, computes(golden().h, &mut Harmonic::new(0.5)));
        let [ax, bx, cx, ay, by, cy, az, bz, cz] = h;
        let cell = Cell::from_rows([[ax, bx, cx], [ay, by, cy], [az, bz, cz]]);
        assert_eq!((cell.inverse(), cell.widths()), (None, None));
    }
}

/// Left-handed vectors span the same lattice: a and b exchanged, or one of them reversed.
#[test]
fn a_left_handed_cell_is_the_same_lattice() {
    // Forces and energies agree to rounding but not to the bit, because images are added in another
    // order.
    fn parse(reply: &[u8]) -> Vec<f64> {
        let places = ForceReady::of(2);
        let energy = real_at(reply, places.energy(0));
        let rest = numbers(&reply[places.forces(0)..places.extras()]);
        [&[energy], &rest[..]].concat()
    }
    let argon = || LennardJones::new(6.43, 0.000379, 9.0);
    let right = computes(
        [20.0, 1.0, 2.0, 0.0, 21.0, 3.0, 0.0, 0.0, 22.0],
        &mut argon(),
    );
    let right = parse(&right.expect("a volume"));
    assert!(right.iter().any(|&x| x != 0.0));
    for h in [
        [1.0, 20.0, 2.0, 21.0, 0.0, 3.0, 0.0, 0.0, 22.0],
        [-20.0, 1.0, 2.0, 0.0, 21.0, 3.0, 0.0, 0.0, 22.0],
        [20.0, 1.0, -2.0, 0.0, 21.0, -3.0, 0.0, 0.0, -22.0],
    ] {
        let [ax, bx, cx, ay, by, cy, az, bz, cz] = h;
        let cell = Cell::from_rows([[ax, bx, cx], [ay, by, cy], [az, bz, cz]]);
        assert_eq!((cell.determinant(), cell.volume()), (-9240.0, 9240.0));
        let left = parse(&computes(h, &mut argon()).expect("a volume"));
        for (left, right) in left.iter().zip(&right) {
            assert!((left - right).abs() < 1e-15, "{left} {right}");
        }
    }
}

/// The result of a server that is asked to send a cell, and the bytes.
fn sends(cell: Cell) -> (Result<(), ProtocolError>, Vec<u8>) {
    let mut server = Server::new();
    assert!(pour(server.status(), &mut { READY }).0.is_ok());
    let positions = [[0.25, 0.5, 0.75]];
    let request = Request::new(&cell, &positions);
    let sent = pour(server.send_positions(request), &mut &b""[..]);
    if sent.0.is_err() {
        assert_eq!(
            server.last_status(),
            Status::UP | Status::READY,
            "as it was"
        );
        assert_eq!(sent.1, b"");
    }
    sent
}

#[test]
fn a_flat_cell_is_not_sent() {
    for h in FLAT {
        let [ax, bx, cx, ay, by, cy, az, bz, cz] = h;
        let cell = Cell::from_rows([[ax, bx, cx], [ay, by, cy], [az, bz, cz]]);
        let error = if cell.is_upper_triangular() {
            ProtocolError::SingularCell
        } else {
            ProtocolError::NotUpperTriangular
        };
        assert_eq!(sends(cell).0, Err(error), "{cell:?}");
    }
}

/// Every number below the diagonal counts, however small, except a zero of either sign.
#[test]
fn a_cell_with_anything_below_its_diagonal_is_not_sent() {
    for at in [3, 6, 7] {
        for below in [1.0, -1.0, 1e-300, 5e-324, -5e-324, f64::MAX] {
            let mut h = [[20.0, 1.0, 2.0], [0.0, 21.0, 3.0], [0.0, 0.0, 22.0]];
            h.as_flattened_mut()[at] = below;
            let told = sends(Cell::from_rows(h)).0;
            assert_eq!(told, Err(ProtocolError::NotUpperTriangular), "{below}");
            // Rotate the cell, as the error advises.
            if below.abs() == 1.0 {
                let (upper, _) = Cell::from_rows(h).to_upper_triangular().expect("a volume");
                assert_eq!(sends(upper).0, Ok(()));
            }
        }
        let mut h = [[20.0, 1.0, 2.0], [0.0, 21.0, 3.0], [0.0, 0.0, 22.0]];
        h.as_flattened_mut()[at] = -0.0;
        assert_eq!(sends(Cell::from_rows(h)).0, Ok(()));
    }
}

#[test]
fn a_left_handed_cell_is_sent_as_it_is() {
    for signs in [
        [-1.0, 1.0, 1.0],
        [1.0, -1.0, 1.0],
        [1.0, 1.0, -1.0],
        [-1.0; 3],
    ] {
        let cell = Cell::orthorhombic([signs[0] * 4.0, signs[1] * 8.0, signs[2] * 16.0]);
        let (sent, said) = sends(cell);
        assert_eq!(sent, Ok(()));
        let inverse = Cell::orthorhombic([signs[0] / 4.0, signs[1] / 8.0, signs[2] / 16.0]);
        let (h, inverse) = (cell.h().as_flattened(), inverse.h().as_flattened());
        // `==` ignores the sign of a zero.
        let at = Posdata::of(1).cell(0);
        assert_eq!(numbers(&said[at..at + layout::CELL]), [h, inverse].concat());
    }
}
