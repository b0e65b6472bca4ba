//! Numbers in messages: precision, virials, atoms outside their cell.

use forcewire::{Cell, Mode, Request, Scalar, Server, Virial};

use super::{MODES, at_ready, computes, positions, run, server};
use forcewire_support::server::{script, script_with_room};
use forcewire_support::*;

// ---- precision ----

#[test]
fn single_precision_sends_what_it_holds_and_holds_rounded_numbers() {
    at_every_split(|split| {
        let third = 1.0 / 3.0;
        let mut structure = cube(vec![[third, -1e-30, 5.0]]);
        let mut answer = answer(1, third, b"");
        answer.forces[0] = [third, -1e30, 16_777_217.0];
        let mut server = at_ready(Server::new());
        let script = script_with_room::<f32>(&mut server, split, 0).evaluates(&structure);
        structure.positions[0] = [f64::from(third as f32), f64::from(-1e-30_f32), 5.0];
        computes(script, Mode::Consolidated, &structure, &answer);
    });
}

/// Energy and virial are not in the caller's arrays and keep all their digits.
#[test]
fn energy_and_virial_are_doubles_whatever_the_atoms_are() {
    let third = 1.0 / 3.0;
    let (cell, positions) = (golden().cell(), [[1.5_f32, -2.25, 0.125]]);
    let mut answer = golden_answer();
    answer.evaluation.energy = third;
    answer.evaluation.virial = Virial::isotropic(third);
    let mut server = at_ready(Server::new());
    let mut forces = [[0.0_f32; 3]];
    let request = Request::new(&cell, &positions);
    let got = run(
        server.evaluate(request, &mut forces, &mut []),
        &forceready(&answer),
    )
    .unwrap();
    assert_eq!(
        (got.evaluation.energy, got.evaluation.virial),
        (third, Virial::isotropic(third))
    );
    assert_eq!(forces, [[0.25, -0.125, 2.0]]);
}

// ---- virials ----

/// LAMMPS sends only the upper triangle; ASE's virials are symmetric except for rounding.
#[test]
fn virials_are_symmetric() {
    let upper = [[1.0, 2.0, 3.0], [0.0, 4.0, 5.0], [0.0, 0.0, 6.0]];
    let lower = [[1.0, 0.0, 0.0], [2.0, 4.0, 0.0], [3.0, 5.0, 6.0]];
    let about = [[1.0, 2.25, 3.0], [1.75, 4.0, 5.5], [3.0, 4.5, 6.0]];
    let full = [[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]];
    for sent in [upper, lower, about, full] {
        for mode in MODES {
            at_every_split(|split| {
                let mut answer = golden_answer();
                answer.evaluation.virial = Virial(sent);
                let bytes = forceready(&answer);
                answer.evaluation.virial = Virial(full);
                let mut server = at_ready(server(mode));
                let script = script(&mut server, split)
                    .evaluates(&golden())
                    .says(positions(mode, &golden()));
                let script = match mode {
                    Mode::Consolidated => script,
                    _ => script.hears(HAVEDATA).says(super::request(mode)),
                };
                script.hears(bytes).gets(&answer);
            });
        }
    }
}

// ---- atoms outside their cell ----

/// These positions as a server sends them, folded.
fn folded<T: Scalar>(h: [f64; 9], positions: &[[f64; 3]]) -> Vec<[f64; 3]> {
    let structure = Structure {
        h,
        inverse: [0.0; 9],
        positions: positions.to_vec(),
    };
    let cell = structure.cell();
    let held: Vec<_> = positions.iter().map(|it| it.map(T::from_f64)).collect();
    let mut server = at_ready(Server::new().fold_positions());
    let places = Posdata::of(positions.len());
    let (sent, rest) = {
        let request = Request::new(&cell, &held);
        let said = pour_some(server.send_positions(request), &mut &b""[..], usize::MAX);
        (
            numbers(&said[places.positions(0)..places.end()]),
            said[places.end()..].to_vec(),
        )
    };
    assert_eq!(rest, [GETFORCE, STATUS].concat());
    sent.as_chunks::<3>().0.to_vec()
}

const CUBE: [f64; 9] = [20.0, 0.0, 0.0, 0.0, 20.0, 0.0, 0.0, 0.0, 20.0];

/// A very skewed cell: b leans over half of a, c over more than a and b.
const LEANING: [f64; 9] = [8.0, 4.0, 11.0, 0.0, 16.0, -20.0, 0.0, 0.0, 4.0];

/// LAMMPS folds atoms by at most one box length; atoms farther out give wrong energies there.
#[test]
fn atoms_several_boxes_out_are_moved_into_the_cell() {
    fn check<T: Scalar>() {
        let out = [
            [1.0, 2.0, 3.0],
            [21.0, -18.0, 63.0],
            [-59.0, 2002.0, -17.0],
            [20.0, 0.0, -20.0],
        ];
        let inside = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0; 3]];
        assert_eq!(folded::<T>(CUBE, &out), inside);
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn atoms_are_moved_by_whole_vectors_of_the_cell() {
    // 0.25 a + 0.5 b + 0.75 c, and the same point displaced by two a, minus three b and five c.
    let inside = [
        0.25 * 8.0 + 0.5 * 4.0 + 0.75 * 11.0,
        0.5 * 16.0 - 0.75 * 20.0,
        0.75 * 4.0,
    ];
    let (a, b, c) = ([8.0, 0.0, 0.0], [4.0, 16.0, 0.0], [11.0, -20.0, 4.0]);
    let out: [f64; 3] = std::array::from_fn(|i| inside[i] + 2.0 * a[i] - 3.0 * b[i] + 5.0 * c[i]);
    assert_eq!(folded::<f64>(LEANING, &[inside, out]), [inside, inside]);
    assert_eq!(folded::<f32>(LEANING, &[inside, out]), [inside, inside]);
}

/// As many atoms as the scratch takes in three parts; none is skipped at the end of one.
#[test]
fn every_atom_is_folded_however_they_are_cut() {
    at_every_split(|split| {
        for count in [0, 1, 25, 26, 32, 33, 90] {
            let mut structure = cube(
                (0..count)
                    .map(|i| [f64::from(i) * 50.0 + 0.5, 1.0, -1.0])
                    .collect(),
            );
            let mut server = at_ready(Server::new().fold_positions());
            let script = script(&mut server, split).evaluates(&structure);
            for [x, _, z] in &mut structure.positions {
                // 50 is two and a half boxes.
                *x = if (*x - 0.5) % 100.0 == 0.0 { 0.5 } else { 10.5 };
                *z = 19.0;
            }
            let answer = answer(count as usize, 1.0, b"");
            computes(script, Mode::Consolidated, &structure, &answer);
        }
    });
}

/// Each structure of a batch into its own cell.
#[test]
fn a_batch_is_folded_too() {
    at_every_split(|split| {
        let mut batch = [
            cube(vec![[25.0, -25.0, 0.0]; 20]),
            cube(vec![[25.0, -25.0, 0.0]; 20]),
        ];
        batch[1].h = CUBE.map(|x| 2.0 * x);
        batch[1].inverse = batch[1].inverse.map(|x| x / 2.0);
        let mut server = server(Mode::Batched(3)).fold_positions();
        let script = script(&mut server, split)
            .evaluates_batch(&batch)
            .says(STATUS)
            .hears(NEEDINIT)
            .says([&init(0, "  batch_size:3"), STATUS].concat())
            .hears(READY);
        batch[0].positions.fill([5.0, 15.0, 0.0]);
        batch[1].positions.fill([25.0, 15.0, 0.0]);
        let all = [batch[0].clone(), batch[1].clone(), batch[1].clone()];
        script.says([&posdata_batch(&all), GETFORCE, STATUS].concat());
    });
}

#[test]
fn an_atom_inside_stays_where_it_is_to_the_last_bit() {
    let positions: Vec<_> = atoms(40)
        .positions
        .iter()
        .map(|it| it.map(f64::abs))
        .collect();
    assert_eq!(folded::<f64>(CUBE, &positions), positions);
    // As close to the upper face as possible; on a face, the atom moves to the lower one.
    let edge = 20.0_f64.next_down();
    assert_eq!(
        folded::<f64>(CUBE, &[[edge, 20.0, 0.0]]),
        [[edge, 0.0, 0.0]]
    );
}

/// An atom below a face by less than the last digit of a number can't be moved into the cell, but
/// is not lost.
#[test]
fn an_atom_a_breath_outside_ends_on_a_face() {
    let [[x, y, z]] = folded::<f64>(CUBE, &[[-1e-30, -0.0, 20.0_f64.next_up()]])[..] else {
        panic!("one atom")
    };
    assert_eq!((x, y), (20.0, 0.0));
    assert!((0.0..1e-14).contains(&z));
}

/// An atom that is 1e300 cells away has no finite place: it is sent unchanged, and not as NaN.
#[test]
fn an_atom_beyond_all_numbers_stays_finite() {
    let cells = [
        [0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5],
        [1.0, 9.0, -9.0, 0.0, 1e-5, 7.0, 0.0, 0.0, 1e-5],
    ];
    for h in cells {
        let far = [[1e308, -1e307, 1e306], [0.0, 1e307, -1e308]];
        let folded = folded::<f64>(h, &far);
        assert!(
            folded.as_flattened().iter().all(|x| x.is_finite()),
            "{folded:?}"
        );
    }
}

#[test]
fn the_callers_own_positions_stay_where_they_are() {
    let (cell, positions) = (Cell::orthorhombic([20.0; 3]), [[25.0, -1.0, 0.0]]);
    let mut server = at_ready(Server::new().fold_positions());
    let request = Request::new(&cell, &positions);
    pour_some(server.send_positions(request), &mut &b""[..], usize::MAX);
    assert_eq!(positions, [[25.0, -1.0, 0.0]]);
    // By default a server folds nothing.
    at_every_split(|split| {
        let structure = cube(vec![[25.0, -1.0, 1e9]]);
        let mut server = at_ready(Server::new());
        script(&mut server, split)
            .sends(&structure)
            .says(super::positions(Mode::Consolidated, &structure))
            .ends();
    });
}
