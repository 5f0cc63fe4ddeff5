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

impl Frame {
    /// Addresses the frame to another device of this host, as if it had arrived there.
    ///
    /// Sets the packet's device and, by the destination address, its type (for this host, for
    /// another one, broadcast, multicast). C: `eth_skb_pkt_type()`.
    #[inline(always)]
    pub fn forward_to(self, dev: &NetDevice) -> Forward<'_> {
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

        // INVARIANT: The device was just set, and a frame's data starts with its MAC header.
        Forward { skb: self.0, dev }
    }
}

/// A frame that is about to be received by another device.
///
/// # Invariants
///
/// `dev` is the packet's device. The packet's data starts with its MAC header, of which programs
/// may have left less than there was.
pub struct Forward<'a> {
    skb: SkBuff,
    dev: &'a NetDevice,
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
    /// Takes the Ethernet header off the data, and out of a checksum over it. What was noted for a
    /// redirection is forgotten: netfilter's egress hooks see the packet when it is sent on, and if
    /// the device has several receive queues, it came by none of them. Returns whether the receive
    /// path took the frame; if it did not, the frame is freed. C: `__netif_rx()`.
    #[inline(always)]
    pub fn receive(self, _context: &TxContext) -> bool {
        self.skb.set_skip_egress(false);
        if self.dev.real_rx_queues() > 1 {
            self.skb.set_queue_mapping(0);
        }

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

        // SAFETY: We own the packet and give it up: by the invariants of `SkBuff` it is not at `tc`
        // ingress, where it could be given back. Its device is valid. `_context` proves that the
        // task has a context.
        unsafe { bindings::skb_do_redirect(skb) };
    }
}
