//! Every call of driver, server and shims, each a function of its own with arguments that nothing is known of.

#![no_std]
#![no_main]

use core::task::Poll;

use embedded_io::{Read, Write};
use forcewire::blocking;
use forcewire::smoltcp::{ConnectionLost, poll};
use forcewire::{
    Answer, Attend, Driver, Error, Evaluation, Event, Exchange, Gathered, GatheredError,
    PotentialError, ProtocolError, Receive, Reply, Request, Server, Status, Step, Storage,
    Transfer,
};
use images::{Echo, Fault, Wire};
use smoltcp::socket::tcp::Socket;

/// Functions that are not inlined and that the report finds by their names.
macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),*) -> $output:ty = $call:expr;)*) => {
        $(
            #[unsafe(export_name = concat!("call_", stringify!($name)))]
            #[inline(never)]
            fn $name($($argument: $type),*) -> $output {
                $call
            }
        )*

        #[unsafe(no_mangle)]
        extern "C" fn image() {
            $(
                let _ = core::hint::black_box(unsafe { $name($(unknown::<$type>()),*) });
            )*
        }
    };
}

/// Whatever is in memory.
unsafe fn unknown<T>() -> T {
    unsafe { (0x2000_0000 as *const T).read_volatile() }
}

type Ask<T> = Exchange<'static, T, Answer>;
type Kept = Gathered<Wire, 256>;
type Result<T, E = ProtocolError> = core::result::Result<T, E>;

calls! {
    receive_step(it: &'static mut Receive<'static, f64>) -> Result<Step<'static, Event>> = it.step();
    receive_advance(it: &mut Receive<'static, f64>, n: usize) -> () = it.advance(n);
    reply_step(it: &'static mut Reply<'static, f64>) -> Result<Step<'static, ()>> = it.step();
    reply_advance(it: &mut Reply<'static, f64>, n: usize) -> () = it.advance(n);
    receive_step_f32(it: &'static mut Receive<'static, f32>) -> Result<Step<'static, Event>> = it.step();
    receive_advance_f32(it: &mut Receive<'static, f32>, n: usize) -> () = it.advance(n);
    reply_step_f32(it: &'static mut Reply<'static, f32>) -> Result<Step<'static, ()>> = it.step();
    reply_advance_f32(it: &mut Reply<'static, f32>, n: usize) -> () = it.advance(n);
    attend_step(it: &'static mut Attend<'static>) -> Result<Step<'static, Option<Event>>> = it.step();
    attend_advance(it: &mut Attend<'static>, n: usize) -> () = it.advance(n);
    receive_end(it: &mut Receive<'static, f64>) -> () = it.end();
    driver_reset(it: &mut Driver) -> () = it.reset();
    driver_parameters(it: &'static Driver) -> Option<(&'static str, &'static str)> = it.parameters().next();
    storage_receive(it: &'static mut Storage<f64, 64>, driver: &'static mut Driver) -> Receive<'static, f64> = it.receive(driver);
    storage_evaluate(it: &mut Storage<f64, 64>, driver: &Driver) -> Result<(), PotentialError> = it.evaluate(driver, &mut Echo);
    storage_reply(it: &'static Storage<f64, 64>, driver: &'static mut Driver) -> Reply<'static, f64> = it.reply(driver);
    exchange_step(it: &'static mut Ask<f64>) -> Result<Step<'static, Answer>> = it.step();
    exchange_advance(it: &mut Ask<f64>, n: usize) -> () = it.advance(n);
    exchange_step_f32(it: &'static mut Ask<f32>) -> Result<Step<'static, Answer>> = it.step();
    exchange_advance_f32(it: &mut Ask<f32>, n: usize) -> () = it.advance(n);
    exchange_end(it: &mut Ask<f64>) -> () = it.end();
    server_reset(it: &mut Server) -> () = it.reset();
    server_known(it: &Server) -> Status = it.known();
    blocking_receive(socket: &mut Wire, driver: &mut Driver, positions: &mut [[f64; 3]]) -> Result<Event, Error<Fault>> = blocking::run(socket, driver.receive(positions));
    blocking_reply(socket: &mut Wire, driver: &mut Driver, evaluation: &Evaluation, forces: &[[f64; 3]]) -> Result<(), Error<Fault>> = blocking::run(socket, driver.reply(evaluation, forces, &[]));
    blocking_receive_f32(socket: &mut Wire, driver: &mut Driver, positions: &mut [[f32; 3]]) -> Result<Event, Error<Fault>> = blocking::run(socket, driver.receive(positions));
    blocking_reply_f32(socket: &mut Wire, driver: &mut Driver, evaluation: &Evaluation, forces: &[[f32; 3]]) -> Result<(), Error<Fault>> = blocking::run(socket, driver.reply(evaluation, forces, &[]));
    blocking_attend(socket: &mut Wire, driver: &mut Driver) -> Result<Option<Event>, Error<Fault>> = blocking::run(socket, driver.attend());
    blocking_evaluate(socket: &mut Wire, server: &mut Server, request: &Request<'static, f64>, forces: &mut [[f64; 3]], extras: &mut [u8]) -> Result<Answer, Error<Fault>> = blocking::run(socket, server.evaluate(*request, forces, extras));
    blocking_evaluate_f32(socket: &mut Wire, server: &mut Server, request: &Request<'static, f32>, forces: &mut [[f32; 3]], extras: &mut [u8]) -> Result<Answer, Error<Fault>> = blocking::run(socket, server.evaluate(*request, forces, extras));
    blocking_status(socket: &mut Wire, server: &mut Server) -> Result<Status, Error<Fault>> = blocking::run(socket, server.status());
    blocking_exit(socket: &mut Wire, server: &mut Server) -> Result<(), Error<Fault>> = blocking::run(socket, server.exit());
    smoltcp_receive(socket: &mut Socket<'static>, driver: &mut Driver, positions: &mut [[f64; 3]]) -> Result<Poll<Event>, Error<ConnectionLost>> = poll(socket, &mut driver.receive(positions));
    smoltcp_reply(socket: &mut Socket<'static>, driver: &mut Driver, evaluation: &Evaluation, forces: &[[f64; 3]]) -> Result<Poll<()>, Error<ConnectionLost>> = poll(socket, &mut driver.reply(evaluation, forces, &[]));
    smoltcp_receive_f32(socket: &mut Socket<'static>, driver: &mut Driver, positions: &mut [[f32; 3]]) -> Result<Poll<Event>, Error<ConnectionLost>> = poll(socket, &mut driver.receive(positions));
    smoltcp_reply_f32(socket: &mut Socket<'static>, driver: &mut Driver, evaluation: &Evaluation, forces: &[[f32; 3]]) -> Result<Poll<()>, Error<ConnectionLost>> = poll(socket, &mut driver.reply(evaluation, forces, &[]));
    smoltcp_attend(socket: &mut Socket<'static>, driver: &mut Driver) -> Result<Poll<Option<Event>>, Error<ConnectionLost>> = poll(socket, &mut driver.attend());
    smoltcp_evaluate(socket: &mut Socket<'static>, server: &mut Server, request: &Request<'static, f64>, forces: &mut [[f64; 3]], extras: &mut [u8]) -> Result<Poll<Answer>, Error<ConnectionLost>> = poll(socket, &mut server.evaluate(*request, forces, extras));
    smoltcp_evaluate_f32(socket: &mut Socket<'static>, server: &mut Server, request: &Request<'static, f32>, forces: &mut [[f32; 3]], extras: &mut [u8]) -> Result<Poll<Answer>, Error<ConnectionLost>> = poll(socket, &mut server.evaluate(*request, forces, extras));
    smoltcp_status(socket: &mut Socket<'static>, server: &mut Server) -> Result<Poll<Status>, Error<ConnectionLost>> = poll(socket, &mut server.status());
    smoltcp_exit(socket: &mut Socket<'static>, server: &mut Server) -> Result<Poll<()>, Error<ConnectionLost>> = poll(socket, &mut server.exit());
    gathered_read(it: &mut Kept, bytes: &mut [u8]) -> Result<usize, GatheredError<Fault>> = Read::read(it, bytes);
    gathered_write(it: &mut Kept, bytes: &[u8]) -> Result<usize, GatheredError<Fault>> = Write::write(it, bytes);
    gathered_flush(it: &mut Kept) -> Result<(), GatheredError<Fault>> = Write::flush(it);
}
