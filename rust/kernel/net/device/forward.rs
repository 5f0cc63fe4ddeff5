// SPDX-License-Identifier: GPL-2.0

//! Packets on their way to another device of this host.
//!
//! C headers: [`include/linux/etherdevice.h`](srctree/include/linux/etherdevice.h),
//! [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::NetDevice;
use crate::{
    bindings,
    net::skbuff::{
        Frame,
        SkBuff,
        TxContext, //
    },
    prelude::*, //
};
#[cfg(CONFIG_BPF_SYSCALL)]
use crate::{
    bpf::{
        mprog::{
            Hook,
            Target, //
        },
        NetCtx, //
    },
    sync::rcu, //
};
use core::marker::PhantomData;

impl Frame {
    /// Addresses the frame to another device of this host, as if it had arrived there.
    ///
    /// Sets the packet's device and, by the destination address, its type (for this host, for
    /// another one, broadcast, multicast). C: `eth_skb_pkt_type()`.
    ///
    /// A packet that a generic XDP program has sent back may still count as one that is being
    /// received, at a `tc` ingress hook. It does not any more: programs could otherwise give it a
    /// socket without a reference, and a redirection could give it back to us, for another round.
    #[inline(always)]
    pub fn forward_to(self, dev: &NetDevice) -> Forward<'_> {
        // SAFETY: The packet is ours, and by the type invariants its data starts with its MAC
        // header.
        unsafe { bindings::skb_leave_tc_ingress(self.as_raw()) };

        // SAFETY: By the type invariants the Ethernet header can be read.
        unsafe { bindings::eth_skb_pkt_type(self.as_raw(), dev.as_raw()) };

        // SAFETY: The packet is ours. The device outlives the `Forward`, which borrows it.
        unsafe {
            (*self.as_raw())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .__bindgen_anon_1
                .dev = dev.as_raw()
        };

        // INVARIANT: The device was just set, the packet has left `tc` ingress, and a frame's data
        // starts with its MAC header.
        Forward {
            skb: self.0,
            _dev: PhantomData,
        }
    }
}

/// A frame that is about to be received by another device.
///
/// # Invariants
///
/// The packet's device is valid during `'a`, and the packet does not count as one at `tc` ingress.
/// Its data starts with its MAC header, of which programs may have left less than there was.
pub struct Forward<'a> {
    skb: SkBuff,
    _dev: PhantomData<&'a NetDevice>,
}

impl Forward<'_> {
    /// Runs the programs of a hook on the frame, until one decides, and returns what it returned.
    ///
    /// Returns `default` if there are no programs, and [`NEXT`](crate::bpf::mprog::NEXT) if none of
    /// them decides. A program can change the frame, and say where [`Forward::redirect`] is to
    /// bring it.
    #[cfg(CONFIG_BPF_SYSCALL)]
    #[inline(always)]
    pub fn run<T: Target>(
        &self,
        hook: &Hook<T>,
        default: i32,
        context: &NetCtx,
        guard: &rcu::Guard,
    ) -> i32 {
        // SAFETY: By the type invariants, the data starts with the MAC header. That remains so: the
        // helpers that programs call move the one with the other.
        unsafe { hook.run(default, &self.skb, context, guard) }
    }

    /// Hands the frame to the receive path of its device.
    ///
    /// Takes the Ethernet header off the data, and out of a checksum over it. Tells whether the
    /// receive path took the frame; if it did not, the frame is freed. C: `__netif_rx()`.
    #[inline(always)]
    pub fn receive(self, _context: &TxContext) -> bool {
        let skb = self.skb.into_raw();

        // SAFETY: We own the packet, and by the type invariants its data starts with the MAC
        // header, which C takes off if it is complete.
        unsafe { bindings::eth_skb_pull_mac_rcsum(skb) };

        // SAFETY: We own the packet and give it up. Its device is valid by the type invariants, and
        // from here on the receive path sees to it: it drops what it queued for a device before it
        // lets go of the device. Bottom halves are disabled, as `_context` proves.
        unsafe { bindings::__netif_rx(skb) == bindings::NET_RX_SUCCESS as c_int }
    }

    /// Brings the frame to where a program has said by `bpf_redirect()` or its kin.
    ///
    /// Whatever comes of it, the frame is gone after this. C: `skb_do_redirect()`.
    #[cfg(CONFIG_BPF_SYSCALL)]
    #[inline(always)]
    pub fn redirect(self, _context: &NetCtx) {
        let skb = self.skb.into_raw();

        // SAFETY: We own the packet and give it up: by the type invariants it is not at `tc`
        // ingress, where it could be given back, and its device is valid. `_context` proves that
        // the task has a context.
        unsafe { bindings::skb_do_redirect(skb) };
    }
}
