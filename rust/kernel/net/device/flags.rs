// SPDX-License-Identifier: GPL-2.0

//! The flags of a network device.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/netdev_features.h`](srctree/include/linux/netdev_features.h)

use crate::{
    bindings,
    impl_flags, //
};

impl_flags!(
    /// Flags of an interface that users see and drivers set, C's `IFF_*` in
    /// [`include/uapi/linux/if.h`](srctree/include/uapi/linux/if.h).
    ///
    /// `IFF_UP` is not one of them: a driver that sets an interface up or down from its callbacks
    /// does so while C walks the list of those that it closes.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct Flags(u32);

    /// One flag of an interface.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Flag {
        /// Neighbours are not resolved.
        NoArp = bindings::net_device_flags_IFF_NOARP,
    }
);

impl_flags!(
    /// Flags between a driver and the stack, C's `enum netdev_priv_flags`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct PrivFlags(u32);

    /// One flag between a driver and the stack.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum PrivFlag {
        /// The hardware address may be changed while the interface is up.
        LiveAddrChange = bindings::netdev_priv_flags_IFF_LIVE_ADDR_CHANGE,

        /// The device needs no queueing discipline by default.
        NoQueue = bindings::netdev_priv_flags_IFF_NO_QUEUE,

        /// The headroom that the device asks for is set by
        /// [`Driver::set_rx_headroom`](super::Driver::set_rx_headroom).
        PhonyHeadroom = bindings::netdev_priv_flags_IFF_PHONY_HEADROOM,
    }
);

impl_flags!(
    /// Offloads, C's `netdev_features_t`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct Features(u64);

    /// One offload, or a group of them that C has a name for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Feature {
        /// Scatter/gather.
        Sg = bindings::NETIF_F_SG,

        /// Checksums of any protocol.
        HwCsum = bindings::NETIF_F_HW_CSUM,

        /// DMA to high memory.
        HighDma = bindings::NETIF_F_HIGHDMA,

        /// Scatter/gather over lists of packets.
        FragList = bindings::NETIF_F_FRAGLIST,

        /// Insertion of a customer VLAN tag.
        HwVlanCtagTx = bindings::NETIF_F_HW_VLAN_CTAG_TX,

        /// Removal of a customer VLAN tag.
        HwVlanCtagRx = bindings::NETIF_F_HW_VLAN_CTAG_RX,

        /// Insertion of a service VLAN tag.
        HwVlanStagTx = bindings::NETIF_F_HW_VLAN_STAG_TX,

        /// Removal of a service VLAN tag.
        HwVlanStagRx = bindings::NETIF_F_HW_VLAN_STAG_RX,

        /// Checksums of SCTP.
        SctpCrc = bindings::NETIF_F_SCTP_CRC,

        /// Validation of checksums on reception.
        RxCsum = bindings::NETIF_F_RXCSUM,

        /// All segmentation that the stack can do in software.
        GsoSoftware = bindings::NETIF_F_GSO_SOFTWARE,

        /// All segmentation of tunnelled packets.
        GsoEncapAll = bindings::NETIF_F_GSO_ENCAP_ALL,
    }
);

impl_flags!(
    /// What XDP can do with a device, C's `enum netdev_xdp_act`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct XdpFeatures(u32);

    /// One thing that XDP can do with a device.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum XdpFeature {
        /// Programs can pass, drop and send back.
        Basic = bindings::netdev_xdp_act_NETDEV_XDP_ACT_BASIC,

        /// Programs can redirect.
        Redirect = bindings::netdev_xdp_act_NETDEV_XDP_ACT_REDIRECT,

        /// AF_XDP sockets can be served without copies.
        XskZeroCopy = bindings::netdev_xdp_act_NETDEV_XDP_ACT_XSK_ZEROCOPY,
    }
);
