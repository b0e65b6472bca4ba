//! virtio-net over MMIO, polled, for smoltcp. Uses the crate virtio-drivers without an allocator.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use forcewire_boards::Ethernet;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// The longest frame.
const FRAME: usize = 1514;
/// A frame with virtio's header in front.
type Buffer = [u8; 1528];
/// How many frames may wait, and the number of descriptors in each queue.
const QUEUE: usize = 8;
/// The size of a slot's registers in bytes (virtio 1.2, 4.2.2).
const REGISTERS: usize = 0x200;

/// The buffers for received frames.
pub struct Buffers([Buffer; QUEUE]);

impl Buffers {
    /// Unused buffers; `const`, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self([[0; 1528]; QUEUE])
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Pages for the queues. Each is handed out once and never returned.
#[repr(C, align(4096))]
struct Pages(UnsafeCell<[u8; PAGES * PAGE_SIZE]>);
/// Two pages for each of the two queues.
const PAGES: usize = 4;

// Safety: each page is handed out once.
unsafe impl Sync for Pages {}

static POOL: Pages = Pages(UnsafeCell::new([0; PAGES * PAGE_SIZE]));
static GIVEN: AtomicUsize = AtomicUsize::new(0);

/// Core and device use the same addresses for memory.
enum Identity {}

// Safety: pages are aligned, zeroed and handed out once.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = GIVEN.load(Relaxed);
        if first + pages > PAGES {
            return (0, NonNull::dangling()); // virtio-drivers takes address 0 for none
        }
        GIVEN.store(first + pages, Relaxed);
        let page = POOL.0.get().cast::<u8>().wrapping_add(first * PAGE_SIZE);
        let address = page.addr() as PhysAddr;
        (address, NonNull::new(page).unwrap_or(NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(address as usize as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().addr() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

type Net = VirtIONetRaw<Identity, MmioTransport<'static>, QUEUE>;

/// The network device.
pub struct Virtio {
    net: Net,
    buffers: &'static mut [Buffer; QUEUE],
    received: Buffer,
    sent: Buffer,
}

impl Virtio {
    /// Finds a network device in these slots. Returns the number of its slot, and the device.
    ///
    /// # Safety
    ///
    /// The slots must be virtio's over MMIO, and nothing else may use them.
    pub unsafe fn find(
        slots: impl Iterator<Item = *mut u32>,
        buffers: &'static mut Buffers,
    ) -> Option<(usize, Self)> {
        for (number, slot) in slots.enumerate() {
            let header = NonNull::new(slot)?.cast::<VirtIOHeader>();
            // Safety: the caller ensures this.
            let Ok(transport) = (unsafe { MmioTransport::new(header, REGISTERS) }) else {
                continue; // an empty slot
            };
            if transport.device_type() == DeviceType::Network {
                return Some((number, Self::new(transport, &mut buffers.0)?));
            }
        }
        None
    }

    fn new(
        transport: MmioTransport<'static>,
        buffers: &'static mut [Buffer; QUEUE],
    ) -> Option<Self> {
        let mut net = Net::new(transport).ok()?;
        for buffer in buffers.iter_mut() {
            // Safety: nothing reads the buffer before it is complete.
            unsafe { net.receive_begin(buffer) }.ok()?;
        }
        Some(Self {
            net,
            buffers,
            received: [0; 1528],
            sent: [0; 1528],
        })
    }

    /// Copies the next frame and returns its buffer to the device.
    fn take(&mut self) -> Option<usize> {
        let token = self.net.poll_receive()?;
        let buffer = self.buffers.get_mut(usize::from(token))?;
        // Safety: a returned buffer gets the only free descriptor, which is the one it had before.
        // Token and buffer therefore belong together.
        let (header, len) = unsafe { self.net.receive_complete(token, buffer) }.ok()?;
        let frame = buffer.get(header..header + len);
        let taken = match (frame, self.received.get_mut(..len)) {
            (Some(frame), Some(room)) => {
                room.copy_from_slice(frame);
                Some(len)
            }
            _ => None,
        };
        // Safety: as in `new`.
        unsafe { self.net.receive_begin(buffer) }.ok()?;
        taken
    }
}

impl Ethernet for Virtio {
    fn address(&self) -> [u8; 6] {
        self.net.mac_address()
    }

    fn idle(&mut self) -> bool {
        self.net.ack_interrupt();
        self.net.poll_receive().is_none()
    }
}

impl Device for Virtio {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sender<'_>)> {
        let len = self.take()?;
        let frame = self.received.get(..len)?;
        Some((Received(frame), Sender(&mut self.net, &mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.net, &mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// A received frame.
pub struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// A frame to send, and the buffer in which it is written.
pub struct Sender<'a>(&'a mut Net, &'a mut Buffer);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self(net, buffer) = self;
        let frame = buffer.get_mut(..len.min(FRAME)).unwrap_or_default();
        let result = f(frame);
        // The call waits for the device. TCP resends frames that the device refuses.
        let _ = net.send(frame);
        result
    }
}
