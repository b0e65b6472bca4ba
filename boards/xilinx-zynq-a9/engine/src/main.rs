//! A model of the programmable logic, for the emulator: `xilinx-zynq-a9-engine EMULATOR FLAGS…`.
//!
//! It starts the emulator with a memory that both share and with a serial line as the doorbell. A
//! byte from UART 1 announces a job, and a byte from here is the engine's interrupt. The library's
//! Lennard-Jones potential computes the forces.
//!
//! When the emulator ends, the line closes, and this program ends with the emulator's status. It
//! leaves no file and no process.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::{self, Command};
use std::{env, slice};

use forcewire::potential::{LennardJones, storage_for};
use forcewire::{Cell, Evaluation, Potential};
use xilinx_zynq_a9_engine::{ATOMS, BASE, CUTOFFS, FORCES, POSITIONS, SIZE, register};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args_os().skip(1);
    let emulator = words.next().ok_or("usage: EMULATOR FLAGS...")?;
    let mut engine = Engine { memory: memory()? };
    let (mut bell, processors) = UnixStream::pair()?;

    // QEMU's RAM begins at 0 and includes the addresses of the logic.
    let bytes = BASE + SIZE;
    let path = format!("/proc/{}/fd/{}", process::id(), engine.memory.as_raw_fd());
    let mut child = Command::new(emulator)
        .args(words)
        .arg("-m")
        .arg(format!("{}M", bytes >> 20))
        .arg("-object")
        .arg(format!(
            "memory-backend-file,id=ram,size={bytes},mem-path={path},share=on"
        ))
        .args(["-machine", "memory-backend=ram"])
        .args(["-chardev", "socket,id=bell,fd=0", "-serial", "chardev:bell"])
        .stdin(OwnedFd::from(processors))
        .spawn()?;

    let mut ring = 0;
    while bell
        .read(slice::from_mut(&mut ring))
        .is_ok_and(|count| count > 0)
    {
        engine.work()?;
        if bell.write_all(&[ring]).is_err() {
            break; // the emulator has ended
        }
    }
    process::exit(child.wait()?.code().unwrap_or(1))
}

/// A file for the emulator's memory, already deleted. Its unused parts take no room.
fn memory() -> io::Result<File> {
    let path = env::temp_dir().join(format!("forcewire-{}", process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(path)?;
    file.set_len((BASE + SIZE) as u64)?;
    Ok(file)
}

struct Engine {
    /// The emulator maps it; reads and writes of the file access the same memory.
    memory: File,
}

impl Engine {
    /// Does the requested job, unless it is finished.
    fn work(&mut self) -> io::Result<()> {
        let wanted = self.word(register::WANTED)?;
        if wanted == self.word(register::DONE)? {
            return Ok(());
        }
        let outcome = self.evaluate();
        if let Ok(evaluation) = &outcome {
            self.write(register::ENERGY, &[evaluation.energy])?;
            self.write(register::VIRIAL, evaluation.virial.0.as_flattened())?;
        }
        self.write_word(register::FAILED, outcome.is_err().into())?;
        if let Err(error) = outcome {
            eprintln!("WARN  the engine: {error}");
        }
        self.write_word(register::DONE, wanted)
    }

    fn evaluate(&mut self) -> Result<Evaluation, Box<dyn Error>> {
        let natoms = self.word(register::NATOMS)? as usize;
        if natoms > ATOMS {
            return Err(format!("{natoms} atoms are more than {ATOMS}").into());
        }
        let at_cutoff = CUTOFFS.get(self.word(register::CUTOFF)? as usize);
        let [[sigma, epsilon, cutoff]] = self.read(register::PARAMETERS)?;
        let cell = Cell::from_rows(self.read(register::CELL)?);
        let mut forces = vec![[0.0; 3]; natoms];
        let evaluation = LennardJones::new(sigma, epsilon, cutoff)
            .with_cutoff(at_cutoff.copied().unwrap_or_default())
            .with_storage(vec![0; storage_for(natoms)])
            .evaluate(&cell, &self.triples(POSITIONS, natoms)?, &mut forces)?;
        self.write(FORCES, forces.as_flattened())?;
        Ok(evaluation)
    }

    fn word(&self, at: usize) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.memory.read_exact_at(&mut bytes, (BASE + at) as u64)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn write_word(&self, at: usize, word: u32) -> io::Result<()> {
        self.memory
            .write_all_at(&word.to_le_bytes(), (BASE + at) as u64)
    }

    /// `N` triples.
    fn read<const N: usize>(&self, at: usize) -> io::Result<[[f64; 3]; N]> {
        let triples = self.triples(at, N)?;
        Ok(std::array::from_fn(|index| triples[index]))
    }

    fn triples(&self, at: usize, count: usize) -> io::Result<Vec<[f64; 3]>> {
        let mut bytes = vec![0; 24 * count];
        self.memory.read_exact_at(&mut bytes, (BASE + at) as u64)?;
        let numbers = bytes
            .as_chunks()
            .0
            .iter()
            .map(|number| f64::from_le_bytes(*number));
        Ok(numbers.collect::<Vec<_>>().as_chunks().0.to_vec())
    }

    fn write(&self, at: usize, numbers: &[f64]) -> io::Result<()> {
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        self.memory.write_all_at(&bytes, (BASE + at) as u64)
    }
}
