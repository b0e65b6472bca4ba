//! Every call of driver, server and shims, each in a separate function with arguments unknown to
//! the compiler.

#![no_std]
#![no_main]

use core::task::Poll;

use embedded_io::{Read, Write};
use forcewire::blocking;
use forcewire::smoltcp::{SocketError, poll};
use forcewire::{
    Answer, AwaitGetForce, Chunks, CoalesceError, Coalesced, Drain, Driver, Error, Event, Exchange,
    PotentialError, ProtocolError, Server, ServerExchange, Status, Step, Storage,
};
use images::{Echo, Fault, Window, Wire};
use smoltcp::socket::tcp::Socket;

/// Functions that are not inlined, so that the report finds them by name.
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

/// A value of arbitrary contents.
unsafe fn unknown<T>() -> T {
    unsafe { (0x2000_0000 as *const T).read_volatile() }
}

type Receive<T> = forcewire::Receive<'static, &'static mut [[T; 3]]>;
type ReceiveInto<T> = forcewire::Receive<'static, Chunks<'static, Window<T>>>;
type Reply<T> = forcewire::Reply<'static, &'static [[T; 3]]>;
type ReplyFrom<T> = forcewire::Reply<'static, Chunks<'static, Window<T>>>;
type Ask<T> = ServerExchange<'static, T, Answer>;
type Kept = Coalesced<Wire, 256>;
type Result<T, E = ProtocolError> = core::result::Result<T, E>;

calls! {
    receive_step(it: &'static mut Receive<f64>) -> Result<Step<'static, Event>> = it.step();
    receive_advance(it: &mut Receive<f64>, n: usize) -> () = it.advance(n);
    reply_step(it: &'static mut Reply<f64>) -> Result<Step<'static, ()>> = it.step();
    reply_advance(it: &mut Reply<f64>, n: usize) -> () = it.advance(n);
    receive_step_f32(it: &'static mut Receive<f32>) -> Result<Step<'static, Event>> = it.step();
    receive_advance_f32(it: &mut Receive<f32>, n: usize) -> () = it.advance(n);
    reply_step_f32(it: &'static mut Reply<f32>) -> Result<Step<'static, ()>> = it.step();
    reply_advance_f32(it: &mut Reply<f32>, n: usize) -> () = it.advance(n);
    receive_into_step(it: &'static mut ReceiveInto<f64>) -> Result<Step<'static, Event>> = it.step();
    receive_into_advance(it: &mut ReceiveInto<f64>, n: usize) -> () = it.advance(n);
    receive_into_step_f32(it: &'static mut ReceiveInto<f32>) -> Result<Step<'static, Event>> = it.step();
    receive_into_advance_f32(it: &mut ReceiveInto<f32>, n: usize) -> () = it.advance(n);
    reply_from_step(it: &'static mut ReplyFrom<f64>) -> Result<Step<'static, ()>> = it.step();
    reply_from_advance(it: &mut ReplyFrom<f64>, n: usize) -> () = it.advance(n);
    reply_from_step_f32(it: &'static mut ReplyFrom<f32>) -> Result<Step<'static, ()>> = it.step();
    reply_from_advance_f32(it: &mut ReplyFrom<f32>, n: usize) -> () = it.advance(n);
    receive_drop(it: Receive<f64>) -> () = drop(it);
    receive_drop_f32(it: Receive<f32>) -> () = drop(it);
    reply_drop(it: Reply<f64>) -> () = drop(it);
    reply_drop_f32(it: Reply<f32>) -> () = drop(it);
    await_getforce_step(it: &'static mut AwaitGetForce<'static>) -> Result<Step<'static, Option<Event>>> = it.step();
    await_getforce_advance(it: &mut AwaitGetForce<'static>, n: usize) -> () = it.advance(n);
    drain_step(it: &'static mut Drain<'static>) -> Result<Step<'static, ()>> = it.step();
    drain_advance(it: &mut Drain<'static>, n: usize) -> () = it.advance(n);
    receive_end(it: &mut Receive<f64>) -> () = it.end();
    driver_reset(it: &mut Driver) -> () = it.reset();
    driver_parameters(it: &'static Driver) -> Option<(&'static str, &'static str)> = it.parameters().next();
    storage_receive(it: &'static mut Storage<f64, 64>, driver: &'static mut Driver) -> Receive<f64> = it.receive(driver);
    storage_evaluate(it: &mut Storage<f64, 64>, natoms: usize, structures: usize) -> Result<(), PotentialError> = it.evaluate(natoms, structures, &mut Echo);
    storage_reply(it: &'static Storage<f64, 64>, driver: &'static mut Driver) -> Reply<f64> = it.reply(driver);
    exchange_step(it: &'static mut Ask<f64>) -> Result<Step<'static, Answer>> = it.step();
    exchange_advance(it: &mut Ask<f64>, n: usize) -> () = it.advance(n);
    exchange_step_f32(it: &'static mut Ask<f32>) -> Result<Step<'static, Answer>> = it.step();
    exchange_advance_f32(it: &mut Ask<f32>, n: usize) -> () = it.advance(n);
    exchange_drop(it: Ask<f64>) -> () = drop(it);
    exchange_drop_f32(it: Ask<f32>) -> () = drop(it);
    exchange_status_step(it: &'static mut ServerExchange<'static, f64, Status>) -> Result<Step<'static, Status>> = it.step();
    exchange_status_advance(it: &mut ServerExchange<'static, f64, Status>, n: usize) -> () = it.advance(n);
    exchange_discard_step(it: &'static mut ServerExchange<'static, f64, ()>) -> Result<Step<'static, ()>> = it.step();
    exchange_discard_advance(it: &mut ServerExchange<'static, f64, ()>, n: usize) -> () = it.advance(n);
    exchange_end(it: &mut Ask<f64>) -> () = it.end();
    server_reset(it: &mut Server) -> () = it.reset();
    server_last_status(it: &Server) -> Status = it.last_status();
    blocking_receive(socket: &mut Wire, it: &mut Receive<f64>) -> Result<Event, Error<Fault>> = blocking::run(socket, it);
    blocking_receive_f32(socket: &mut Wire, it: &mut Receive<f32>) -> Result<Event, Error<Fault>> = blocking::run(socket, it);
    blocking_reply(socket: &mut Wire, it: &mut Reply<f64>) -> Result<(), Error<Fault>> = blocking::run(socket, it);
    blocking_reply_f32(socket: &mut Wire, it: &mut Reply<f32>) -> Result<(), Error<Fault>> = blocking::run(socket, it);
    blocking_receive_into(socket: &mut Wire, it: &mut ReceiveInto<f32>) -> Result<Event, Error<Fault>> = blocking::run(socket, it);
    blocking_reply_from(socket: &mut Wire, it: &mut ReplyFrom<f32>) -> Result<(), Error<Fault>> = blocking::run(socket, it);
    blocking_exchange(socket: &mut Wire, it: &mut Ask<f64>) -> Result<Answer, Error<Fault>> = blocking::run(socket, it);
    blocking_exchange_f32(socket: &mut Wire, it: &mut Ask<f32>) -> Result<Answer, Error<Fault>> = blocking::run(socket, it);
    blocking_drain(socket: &mut Wire, it: &mut Drain<'static>) -> Result<(), Error<Fault>> = blocking::run(socket, it);
    blocking_await_getforce(socket: &mut Wire, it: &mut AwaitGetForce<'static>) -> Result<Option<Event>, Error<Fault>> = blocking::run(socket, it);
    blocking_exchange_discard(socket: &mut Wire, it: &mut ServerExchange<'static, f64, ()>) -> Result<(), Error<Fault>> = blocking::run(socket, it);
    blocking_status(socket: &mut Wire, it: &mut ServerExchange<'static, f64, Status>) -> Result<Status, Error<Fault>> = blocking::run(socket, it);
    smoltcp_receive(socket: &mut Socket<'static>, it: &mut Receive<f64>) -> Result<Poll<Event>, Error<SocketError>> = poll(socket, it);
    smoltcp_receive_f32(socket: &mut Socket<'static>, it: &mut Receive<f32>) -> Result<Poll<Event>, Error<SocketError>> = poll(socket, it);
    smoltcp_reply(socket: &mut Socket<'static>, it: &mut Reply<f64>) -> Result<Poll<()>, Error<SocketError>> = poll(socket, it);
    smoltcp_reply_f32(socket: &mut Socket<'static>, it: &mut Reply<f32>) -> Result<Poll<()>, Error<SocketError>> = poll(socket, it);
    smoltcp_receive_into(socket: &mut Socket<'static>, it: &mut ReceiveInto<f32>) -> Result<Poll<Event>, Error<SocketError>> = poll(socket, it);
    smoltcp_reply_from(socket: &mut Socket<'static>, it: &mut ReplyFrom<f32>) -> Result<Poll<()>, Error<SocketError>> = poll(socket, it);
    smoltcp_exchange(socket: &mut Socket<'static>, it: &mut Ask<f64>) -> Result<Poll<Answer>, Error<SocketError>> = poll(socket, it);
    smoltcp_exchange_f32(socket: &mut Socket<'static>, it: &mut Ask<f32>) -> Result<Poll<Answer>, Error<SocketError>> = poll(socket, it);
    smoltcp_drain(socket: &mut Socket<'static>, it: &mut Drain<'static>) -> Result<Poll<()>, Error<SocketError>> = poll(socket, it);
    smoltcp_await_getforce(socket: &mut Socket<'static>, it: &mut AwaitGetForce<'static>) -> Result<Poll<Option<Event>>, Error<SocketError>> = poll(socket, it);
    smoltcp_exchange_discard(socket: &mut Socket<'static>, it: &mut ServerExchange<'static, f64, ()>) -> Result<Poll<()>, Error<SocketError>> = poll(socket, it);
    smoltcp_status(socket: &mut Socket<'static>, it: &mut ServerExchange<'static, f64, Status>) -> Result<Poll<Status>, Error<SocketError>> = poll(socket, it);
    coalesce_read(it: &mut Kept, bytes: &mut [u8]) -> Result<usize, CoalesceError<Fault>> = Read::read(it, bytes);
    coalesce_write(it: &mut Kept, bytes: &[u8]) -> Result<usize, CoalesceError<Fault>> = Write::write(it, bytes);
    coalesce_flush(it: &mut Kept) -> Result<(), CoalesceError<Fault>> = Write::flush(it);
}
