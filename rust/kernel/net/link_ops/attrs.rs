// SPDX-License-Identifier: GPL-2.0

//! The attributes that links of all kinds have.
//!
//! C header: [`include/uapi/linux/if_link.h`](srctree/include/uapi/linux/if_link.h)

use crate::{
    bindings,
    error::to_result,
    net::{
        device::Name,
        ext_ack::ExtAck,
        nlattr::{
            Attr,
            AttrSet,
            Bytes,
            Family,
            Key,
            Prefixed, //
        },
    },
    num::casts::u32_as_usize,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// The size of an Ethernet address, in bytes.
const ETH_ALEN: usize = u32_as_usize(bindings::ETH_ALEN);

/// The attributes that links of all kinds have, C's `IFLA_*`.
///
/// rtnetlink validates them, and applies most of them by itself.
pub struct LinkAttrs;

impl Family for LinkAttrs {
    const MAX: usize = u32_as_usize(bindings::__IFLA_MAX) - 1;
}

impl LinkAttrs {
    /// The hardware address.
    // SAFETY: Every attribute can be read as bytes.
    pub const ADDRESS: Key<Self, Bytes> = unsafe { Key::new(bindings::IFLA_ADDRESS) };

    /// The name of the interface, with or without a NUL at the end.
    // SAFETY: Every attribute can be read as bytes.
    pub const NAME: Key<Self, Bytes> = unsafe { Key::new(bindings::IFLA_IFNAME) };
}

impl AttrSet<'_, LinkAttrs> {
    /// Returns the name that the user has chosen, if any.
    pub fn name(self) -> Option<Name> {
        self.get(LinkAttrs::NAME).map(|bytes| {
            let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());

            Name::chosen(&bytes[..len])
        })
    }

    /// Checks the hardware address, if one is given, as one for an Ethernet device.
    ///
    /// Returns [`EINVAL`] if it has another length, [`EADDRNOTAVAIL`] if it is all zero or a
    /// multicast address.
    pub fn validate_ethernet_address(self) -> Result {
        let Some(address) = self.get(LinkAttrs::ADDRESS) else {
            return Ok(());
        };

        let address: &[u8; ETH_ALEN] = address.try_into().map_err(|_| EINVAL)?;

        // SAFETY: The address is as long as one of an Ethernet device.
        if unsafe { bindings::is_valid_ether_addr(address.as_ptr()) } {
            Ok(())
        } else {
            Err(EADDRNOTAVAIL)
        }
    }
}

/// What describes the second device of a pair: a `struct ifinfomsg` and [`LinkAttrs`] of its own.
///
/// A type of attribute for [`nl_attributes!`](crate::nl_attributes).
pub type PeerAttr = Prefixed<bindings::ifinfomsg>;

/// The parsed contents of a [`PeerAttr`].
///
/// # Invariants
///
/// Each entry of the table is null or points to a validated attribute that is valid during `'a`.
pub struct PeerInfo<'a> {
    ifindex: i32,
    table: [*mut bindings::nlattr; LinkAttrs::MAX + 1],
    _p: PhantomData<&'a ()>,
}

impl<'a> PeerInfo<'a> {
    /// Parses the attribute, which must be one that a [`PeerAttr`] key gave.
    pub fn parse(attr: Attr<'a>, extack: ExtAck<'a>) -> Result<Self> {
        if attr.payload().len() < size_of::<bindings::ifinfomsg>() {
            return Err(EINVAL);
        }

        let mut table = [ptr::null_mut(); LinkAttrs::MAX + 1];

        // SAFETY: The table has the size that the function expects, and the attribute starts with
        // a `struct ifinfomsg`, as checked above.
        to_result(unsafe {
            bindings::rtnl_nla_parse_ifinfomsg(table.as_mut_ptr(), attr.as_raw(), extack.as_raw())
        })?;

        // SAFETY: As above.
        let info = unsafe {
            attr.payload()
                .as_ptr()
                .cast::<bindings::ifinfomsg>()
                .read_unaligned()
        };

        // INVARIANT: The parser points into the attribute, and validates what it finds there.
        Ok(Self {
            ifindex: info.ifi_index,
            table,
            _p: PhantomData,
        })
    }

    /// Returns the index that the user wants the device to have, 0 if any will do.
    #[inline]
    pub fn ifindex(&self) -> i32 {
        self.ifindex
    }

    /// Returns the attributes.
    #[inline]
    pub fn attrs(&self) -> AttrSet<'_, LinkAttrs> {
        // SAFETY: By the type invariants the table is as `AttrSet` wants it. It is only read from.
        unsafe { AttrSet::from_raw(self.table.as_ptr().cast_mut()) }
    }
}
