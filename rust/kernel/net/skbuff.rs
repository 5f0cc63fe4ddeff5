// SPDX-License-Identifier: GPL-2.0

//! Packets on their way through a network device.
//!
//! A packet ([`Packet`]) has one owner. [`SkBuff`] is that ownership: dropping it frees the packet,
//! and what hands it on (to the receive path, say) takes it by value. The states that a packet goes
//! through on its way from one device to another are types, each reached from the one before it:
//!
//! - [`SkBuff`]: any packet;
//! - [`Frame`]: its Ethernet header is complete and can be read;
//! - [`Forward`](super::device::Forward): a frame that is addressed to another device, which it
//!   cannot outlive.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use crate::{
    alloc::{
        AllocError,
        Flags, //
    },
    bindings,
    prelude::*,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};
use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};

/// Proof that we are called by the transmit path, with bottom halves disabled.
///
/// # Invariants
///
/// Bottom halves are disabled on the current CPU for as long as a reference to the value exists.
pub struct TxContext(NotThreadSafe);

impl TxContext {
    /// Gives the proof to a transmit callback.
    ///
    /// # Safety
    ///
    /// Bottom halves must be disabled on the current CPU for the whole of `'a`.
    #[inline(always)]
    pub unsafe fn assume<'a>() -> &'a Self {
        // INVARIANT: The caller guarantees that bottom halves are disabled.
        const CONTEXT: &TxContext = &TxContext(NotThreadSafe);

        CONTEXT
    }
}

/// What a driver did with the packet that it was given to transmit.
pub enum XmitResult {
    /// The packet is on its way.
    Sent,
    /// The packet was dropped, and freed, which the sender may be told.
    Dropped,
}

impl XmitResult {
    /// Returns what the transmit path of C expects.
    #[inline(always)]
    pub fn into_raw(self) -> bindings::netdev_tx_t {
        match self {
            Self::Sent => bindings::netdev_tx_t::NETDEV_TX_OK,
            Self::Dropped => bindings::netdev_tx_t(bindings::NET_XMIT_DROP as c_int),
        }
    }
}

/// A packet, whoever owns it. C's `struct sk_buff`.
///
/// # Invariants
///
/// The packet is valid, and nobody else uses it while a reference to it exists.
#[repr(transparent)]
pub struct Packet(Opaque<bindings::sk_buff>);

impl Packet {
    /// Returns the C pointer.
    #[inline(always)]
    pub fn as_raw(&self) -> *mut bindings::sk_buff {
        self.0.get()
    }

    /// Returns the length of the packet in bytes.
    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks for empty packets")]
    pub fn len(&self) -> u32 {
        // SAFETY: By the type invariants, the packet is valid.
        unsafe { (*self.as_raw()).len }
    }

    /// Sets the mark that firewall rules and routing match on.
    #[inline(always)]
    pub fn set_mark(&self, mark: u32) {
        // SAFETY: By the type invariants, the packet is valid.
        unsafe { bindings::skb_set_mark(self.as_raw(), mark) };
    }

    /// Sets the priority that queueing disciplines look at.
    #[inline(always)]
    pub fn set_priority(&self, priority: u32) {
        // SAFETY: By the type invariants, the packet is valid.
        unsafe { bindings::skb_set_priority(self.as_raw(), priority) };
    }

    /// Sets the number of the queue by which the packet is sent, or plus one, of that by which it
    /// was received; 0: it is not known.
    #[inline(always)]
    pub fn set_queue_mapping(&self, queue: u16) {
        // SAFETY: By the type invariants, the packet is valid.
        unsafe { bindings::skb_set_queue_mapping(self.as_raw(), queue) };
    }

    /// Forgets what a packet must not carry from one device to the next: route, connection
    /// tracking, extensions, packet type; with `cross_net`, mark and time stamp too.
    ///
    /// C: `skb_scrub_packet()`.
    #[inline(always)]
    pub fn scrub(&self, cross_net: bool) {
        // SAFETY: By the type invariants, the packet is valid.
        unsafe { bindings::skb_scrub_packet(self.as_raw(), cross_net) };
    }

    /// Forgets the time stamp of reception; a delivery time stays.
    ///
    /// C: `skb_clear_tstamp()`.
    #[inline(always)]
    pub fn clear_timestamp(&self) {
        // SAFETY: By the type invariants, the packet is valid.
        unsafe { bindings::skb_clear_tstamp(self.as_raw()) };
    }

    /// Tells the netfilter egress hook whether to leave the packet alone.
    ///
    /// C: `nf_skip_egress()`.
    #[inline(always)]
    pub fn set_skip_egress(&self, skip: bool) {
        // SAFETY: By the type invariants, the packet is valid.
        unsafe { bindings::nf_skip_egress(self.as_raw(), skip) };
    }

    /// Copies fragments that are memory of user space, to which their owner may still write, where
    /// the owner has asked for that to be done on the way. Those of `MSG_ZEROCOPY` stay until a
    /// socket of this host receives them.
    ///
    /// Fails if they could not be copied. C: `skb_orphan_frags()`.
    #[inline(always)]
    pub fn orphan_frags(&self, flags: Flags) -> Result<(), AllocError> {
        // SAFETY: By the type invariants, the packet is valid.
        match unsafe { bindings::skb_orphan_frags(self.as_raw(), flags.as_raw()) } {
            0 => Ok(()),
            _ => Err(AllocError),
        }
    }
}

/// A packet, owned.
///
/// Dropping it frees the packet as one that was dropped on its way (`kfree_skb()`).
///
/// # Examples
///
/// ```
/// use kernel::net::skbuff::SkBuff;
///
/// let skb = SkBuff::new(128, GFP_KERNEL)?;
/// assert_eq!(skb.len(), 0);
/// skb.set_mark(7);
///
/// // Too short to be an Ethernet frame: we get it back.
/// let skb = skb.into_frame().err().ok_or(EINVAL)?;
/// skb.consume();
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// The pointer refers to a valid packet that this object owns, and that does not count as one at a
/// `tc` ingress hook (`skb_at_tc_ingress()`).
pub struct SkBuff(NonNull<Packet>);

// SAFETY: A packet may be handed over to, and freed by, any CPU.
unsafe impl Send for SkBuff {}

impl SkBuff {
    /// Allocates an empty packet with room for `size` bytes.
    pub fn new(size: u32, flags: Flags) -> Result<Self> {
        // SAFETY: `alloc_skb()` has no further requirements.
        let skb = unsafe { bindings::alloc_skb(size, flags.as_raw()) };

        // INVARIANT: The packet was just allocated for us, and has not been at any hook.
        NonNull::new(skb.cast()).map(Self).ok_or(ENOMEM)
    }

    /// Takes over the ownership of a packet.
    ///
    /// # Safety
    ///
    /// `skb` must point to a valid packet whose ownership the caller gives up, and which is not at
    /// a `tc` ingress hook.
    #[inline(always)]
    pub unsafe fn from_raw(skb: *mut bindings::sk_buff) -> Self {
        // INVARIANT: The caller guarantees it.
        // SAFETY: The caller guarantees that the pointer is valid, hence not null.
        Self(unsafe { NonNull::new_unchecked(skb.cast()) })
    }

    /// Gives up the ownership of the packet.
    #[inline(always)]
    pub fn into_raw(self) -> *mut bindings::sk_buff {
        ManuallyDrop::new(self).as_raw()
    }

    /// Frees a packet that reached its end: it does not show up as a drop (`consume_skb()`).
    #[inline]
    pub fn consume(self) {
        // SAFETY: `into_raw()` gave up the ownership, which `consume_skb()` takes.
        unsafe { bindings::consume_skb(self.into_raw()) };
    }

    /// Takes the start of the data as the Ethernet header, if the packet is long enough.
    ///
    /// Gives the packet back if it is shorter than such a header, or if no memory was left to put
    /// the header's bytes side by side.
    #[inline(always)]
    pub fn into_frame(self) -> Result<Frame, Self> {
        // SAFETY: By the type invariants, the packet is valid and ours.
        if !unsafe { bindings::pskb_may_pull(self.as_raw(), bindings::ETH_HLEN) } {
            return Err(self);
        }

        // SAFETY: As above.
        unsafe { bindings::skb_reset_mac_header(self.as_raw()) };

        // INVARIANT: The header's bytes are linear, and the MAC header is where the data starts.
        Ok(Frame(self))
    }
}

impl Deref for SkBuff {
    type Target = Packet;

    #[inline(always)]
    fn deref(&self) -> &Packet {
        // SAFETY: By the type invariants, the packet is valid and ours.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SkBuff {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the packet is ours to free.
        unsafe { bindings::kfree_skb(self.as_raw()) };
    }
}

/// A packet whose data starts with an Ethernet header.
///
/// # Invariants
///
/// The first `ETH_HLEN` bytes of the data are linear, and the MAC header is set to their start.
///
/// Nothing that [`Packet`] offers can change that.
pub struct Frame(pub(super) SkBuff);

impl Deref for Frame {
    type Target = Packet;

    #[inline(always)]
    fn deref(&self) -> &Packet {
        &self.0
    }
}
