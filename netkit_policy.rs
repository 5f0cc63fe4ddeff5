// SPDX-License-Identifier: GPL-2.0-only

//! What users can configure: parsing, validating, changing and reporting it.

use crate::Netkit;
use kernel::{
    net::{
        device::Device,
        ext_ack::ExtAck,
        link_ops::{
            LinkAttrs,
            PeerAttr,
            PeerInfo, //
        },
        nlattr::{
            AttrSet,
            Key,
            MsgWriter,
            Raw, //
        },
        rtnl::Rtnl, //
    },
    nl_attributes,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    uapi, //
};

nl_attributes! {
    /// What may follow `ip link add type netkit`.
    pub(crate) struct NetkitAttrs(max = uapi::__IFLA_NETKIT_MAX - 1) {
        /// Describes the peer.
        PEER_INFO: PeerAttr = uapi::IFLA_NETKIT_PEER_INFO,
        /// Which end of a pair this is.
        PRIMARY: u8 [reject(c"Which end is the primary cannot be chosen")] =
            uapi::IFLA_NETKIT_PRIMARY,
        /// What becomes of packets that no program decides on.
        POLICY: u32 = uapi::IFLA_NETKIT_POLICY,
        /// The same, of the peer.
        PEER_POLICY: u32 = uapi::IFLA_NETKIT_PEER_POLICY,
        /// Whether packets have Ethernet addresses.
        MODE: u32 [max(uapi::netkit_mode_NETKIT_L3)] = uapi::IFLA_NETKIT_MODE,
        /// What packets lose that leave for another namespace.
        SCRUB: u32 [max(uapi::netkit_scrub_NETKIT_SCRUB_DEFAULT)] = uapi::IFLA_NETKIT_SCRUB,
        /// The same, of the peer.
        PEER_SCRUB: u32 [max(uapi::netkit_scrub_NETKIT_SCRUB_DEFAULT)] =
            uapi::IFLA_NETKIT_PEER_SCRUB,
        /// The headroom of both ends, in bytes.
        HEADROOM: u16 = uapi::IFLA_NETKIT_HEADROOM,
        /// The tailroom of both ends, in bytes.
        TAILROOM: u16 = uapi::IFLA_NETKIT_TAILROOM,
        /// Whether there is a peer at all.
        PAIRING: u32 [max(uapi::netkit_pairing_NETKIT_DEVICE_SINGLE)] = uapi::IFLA_NETKIT_PAIRING,
    }
}

/// Makes an enum of values that have numbers in netlink messages.
macro_rules! netlink_enum {
    (
        $(#[$outer:meta])*
        enum $name:ident {
            $($(#[$inner:meta])* $variant:ident = $value:expr,)*
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub(crate) enum $name {
            $($(#[$inner])* $variant = $value,)*
        }

        impl TryFrom<u32> for $name {
            type Error = Error;

            fn try_from(value: u32) -> Result<Self> {
                match value {
                    $(value if value == Self::$variant as u32 => Ok(Self::$variant),)*
                    _ => Err(EINVAL),
                }
            }
        }
    };
}

netlink_enum! {
    /// Whether packets have Ethernet addresses.
    enum Mode {
        /// They do, and neighbours are resolved.
        L2 = uapi::netkit_mode_NETKIT_L2,
        /// They have headers without meaning.
        L3 = uapi::netkit_mode_NETKIT_L3,
    }
}

netlink_enum! {
    /// Whether there is a peer.
    enum Pairing {
        /// There is.
        Pair = uapi::netkit_pairing_NETKIT_DEVICE_PAIR,
        /// There is none.
        Single = uapi::netkit_pairing_NETKIT_DEVICE_SINGLE,
    }
}

netlink_enum! {
    /// What packets lose that leave for another namespace.
    enum Scrub {
        /// Nothing that they need not lose.
        None = uapi::netkit_scrub_NETKIT_SCRUB_NONE,
        /// Mark and priority.
        Default = uapi::netkit_scrub_NETKIT_SCRUB_DEFAULT,
    }
}

/// What becomes of a packet: as a program may return any number, this holds any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action(pub(crate) i32);

impl Action {
    /// The next program decides; after the last one, the packet is passed on.
    pub(crate) const NEXT: Self = Self(uapi::netkit_action_NETKIT_NEXT);
    /// The peer receives the packet.
    pub(crate) const PASS: Self = Self(uapi::netkit_action_NETKIT_PASS);
    /// The packet is dropped, as it is for all values that mean nothing else.
    pub(crate) const DROP: Self = Self(uapi::netkit_action_NETKIT_DROP);
    /// A program has said where the packet goes.
    pub(crate) const REDIRECT: Self = Self(uapi::netkit_action_NETKIT_REDIRECT);

    /// Reads an attribute that sets a policy.
    fn from_policy<'a>(
        data: AttrSet<'a, NetkitAttrs>,
        key: Key<NetkitAttrs, u32>,
        extack: ExtAck<'a>,
    ) -> Result<Option<Self>> {
        let (Some(attr), Some(value)) = (data.attr(key), data.get(key)) else {
            return Ok(None);
        };

        match Self(value as i32) {
            policy @ (Self::PASS | Self::DROP) => Ok(Some(policy)),
            _ => {
                extack.set_msg_attr(c"A policy can only be to pass or to drop", attr);
                Err(EINVAL)
            }
        }
    }
}

/// The policy of a device: an [`Action`] that can change while packets pass.
pub(crate) struct Policy(Atomic<i32>);

impl Policy {
    pub(crate) fn new(action: Action) -> Self {
        Self(Atomic::new(action.0))
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> Action {
        Action(self.0.load(Relaxed))
    }

    fn store(&self, action: Action) {
        self.0.store(action.0, Relaxed);
    }

    /// Returns the number that stands for the policy in netlink messages.
    fn to_netlink(&self) -> u32 {
        self.load().0 as u32
    }
}

/// What can be different at the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) policy: Action,
    pub(crate) scrub: Scrub,
}

/// What is asked of the peer.
pub(crate) struct PeerConfig<'a> {
    pub(crate) end: End,
    /// The attributes that links of all kinds have, unless the peer is to take after the primary.
    pub(crate) info: Option<PeerInfo<'a>>,
}

impl PeerConfig<'_> {
    /// Tells whether the peer has been given a hardware address.
    pub(crate) fn has_address(&self) -> bool {
        self.info
            .as_ref()
            .is_some_and(|info| info.attrs().has(LinkAttrs::ADDRESS))
    }
}

/// A request to create a device, checked.
pub(crate) struct Config<'a> {
    pub(crate) mode: Mode,
    pub(crate) pairing: Pairing,
    pub(crate) primary: End,
    pub(crate) peer: PeerConfig<'a>,
    /// In bytes; 0 leaves it at what it is.
    pub(crate) headroom: u16,
    /// In bytes; 0 leaves it at what it is.
    pub(crate) tailroom: u16,
}

impl<'a> Config<'a> {
    /// Reads a request, and refuses what cannot go together.
    pub(crate) fn parse(
        link: AttrSet<'a, LinkAttrs>,
        data: AttrSet<'a, NetkitAttrs>,
        extack: ExtAck<'a>,
    ) -> Result<Self> {
        let this = Self {
            mode: read(data, NetkitAttrs::MODE, Mode::L3)?,
            primary: End {
                policy: Action::from_policy(data, NetkitAttrs::POLICY, extack)?
                    .unwrap_or(Action::PASS),
                scrub: read(data, NetkitAttrs::SCRUB, Scrub::Default)?,
            },
            peer: PeerConfig {
                end: End {
                    policy: Action::from_policy(data, NetkitAttrs::PEER_POLICY, extack)?
                        .unwrap_or(Action::PASS),
                    scrub: read(data, NetkitAttrs::PEER_SCRUB, Scrub::Default)?,
                },
                info: data
                    .get(NetkitAttrs::PEER_INFO)
                    .map(|attr| PeerInfo::parse(attr, extack))
                    .transpose()?,
            },
            headroom: data.get(NetkitAttrs::HEADROOM).unwrap_or(0),
            tailroom: data.get(NetkitAttrs::TAILROOM).unwrap_or(0),
            pairing: read(data, NetkitAttrs::PAIRING, Pairing::Pair)?,
        };

        let has_address = link.has(LinkAttrs::ADDRESS) || this.peer.has_address();

        if this.mode != Mode::L2 && has_address {
            return Err(EOPNOTSUPP);
        }
        if this.pairing == Pairing::Single && this.needs_peer(data) {
            return Err(EOPNOTSUPP);
        }
        Ok(this)
    }

    /// Tells whether the request asks for what only a pair has.
    fn needs_peer(&self, data: AttrSet<'_, NetkitAttrs>) -> bool {
        data.has(NetkitAttrs::PEER_INFO)
            || data.has(NetkitAttrs::PEER_SCRUB)
            || data.has(NetkitAttrs::PEER_POLICY)
            || data.has(NetkitAttrs::SCRUB)
            || self.primary.policy != Action::PASS
    }
}

/// Reads an attribute that has a default.
fn read<T: TryFrom<u32, Error = Error>>(
    data: AttrSet<'_, NetkitAttrs>,
    key: Key<NetkitAttrs, u32>,
    default: T,
) -> Result<T> {
    data.get(key).map_or(Ok(default), T::try_from)
}

/// What cannot be changed once a device is there.
const FIXED: [(Key<NetkitAttrs, Raw>, &CStr); 7] = [
    (
        NetkitAttrs::MODE.raw(),
        c"The mode cannot be changed after the device was created",
    ),
    (
        NetkitAttrs::SCRUB.raw(),
        c"Scrubbing cannot be changed after the device was created",
    ),
    (
        NetkitAttrs::PEER_SCRUB.raw(),
        c"Scrubbing by the peer cannot be changed after the device was created",
    ),
    (
        NetkitAttrs::PEER_INFO.raw(),
        c"The peer can be described only when the device is created",
    ),
    (
        NetkitAttrs::HEADROOM.raw(),
        c"The headroom cannot be changed after the device was created",
    ),
    (
        NetkitAttrs::TAILROOM.raw(),
        c"The tailroom cannot be changed after the device was created",
    ),
    (
        NetkitAttrs::PAIRING.raw(),
        c"A pair cannot become a single device, nor the reverse",
    ),
];

/// Changes the policies of a pair, through its primary.
pub(crate) fn change<'a>(
    dev: &Device<Netkit>,
    data: AttrSet<'a, NetkitAttrs>,
    extack: ExtAck<'a>,
    rtnl: &Rtnl,
) -> Result {
    let this = dev.data();
    let peer = dev.peer_rtnl(rtnl);

    if !this.primary {
        extack.set_msg(c"Both ends are configured through the primary");
        return Err(EACCES);
    }
    refuse_fixed(data, extack)?;

    if data.has(NetkitAttrs::POLICY) {
        let target = (this.pairing == Pairing::Pair).then_some(&this.policy);

        change_policy(target, data, NetkitAttrs::POLICY, extack)?;
    }
    if data.has(NetkitAttrs::PEER_POLICY) {
        let target = peer.map(|peer| &peer.data().policy);

        change_policy(target, data, NetkitAttrs::PEER_POLICY, extack)?;
    }
    Ok(())
}

fn refuse_fixed<'a>(data: AttrSet<'a, NetkitAttrs>, extack: ExtAck<'a>) -> Result {
    for (key, msg) in FIXED {
        if let Some(attr) = data.attr(key) {
            extack.set_msg_attr(msg, attr);
            return Err(EACCES);
        }
    }
    Ok(())
}

/// Changes a policy, if there is one to change.
fn change_policy<'a>(
    target: Option<&Policy>,
    data: AttrSet<'a, NetkitAttrs>,
    key: Key<NetkitAttrs, u32>,
    extack: ExtAck<'a>,
) -> Result {
    let target = target.ok_or(EOPNOTSUPP)?;

    if let Some(policy) = Action::from_policy(data, key, extack)? {
        target.store(policy);
    }
    Ok(())
}

/// The room that [`report`] needs at most, in bytes.
pub(crate) const REPORT_ROOM: usize = NetkitAttrs::POLICY.room()
    + NetkitAttrs::PEER_POLICY.room()
    + NetkitAttrs::SCRUB.room()
    + NetkitAttrs::PEER_SCRUB.room()
    + NetkitAttrs::MODE.room()
    + NetkitAttrs::PRIMARY.room()
    + NetkitAttrs::HEADROOM.room()
    + NetkitAttrs::TAILROOM.room()
    + NetkitAttrs::PAIRING.room();

/// Reports the configuration of a device.
pub(crate) fn report(dev: &Device<Netkit>, msg: &mut MsgWriter<'_>, rtnl: &Rtnl) -> Result {
    let this = dev.data();

    msg.put(NetkitAttrs::PRIMARY, this.primary.into())?;
    msg.put(NetkitAttrs::POLICY, this.policy.to_netlink())?;
    msg.put(NetkitAttrs::MODE, this.mode as u32)?;
    if this.pairing == Pairing::Pair {
        msg.put(NetkitAttrs::SCRUB, this.scrub as u32)?;
    }
    msg.put(NetkitAttrs::HEADROOM, dev.needed_headroom())?;
    msg.put(NetkitAttrs::TAILROOM, dev.needed_tailroom())?;
    msg.put(NetkitAttrs::PAIRING, this.pairing as u32)?;

    if let Some(peer) = dev.peer_rtnl(rtnl) {
        let peer = peer.data();

        msg.put(NetkitAttrs::PEER_POLICY, peer.policy.to_netlink())?;
        msg.put(NetkitAttrs::PEER_SCRUB, peer.scrub as u32)?;
    }
    Ok(())
}

#[cfg(CONFIG_NETKIT_RUST_KUNIT_TEST)]
#[kunit_tests(netkit_policy)]
mod tests {
    use super::*;
    use kernel::net::nlattr::Request;

    const L2: u32 = uapi::netkit_mode_NETKIT_L2;
    const SINGLE: u32 = uapi::netkit_pairing_NETKIT_DEVICE_SINGLE;
    const DROP: u32 = uapi::netkit_action_NETKIT_DROP as u32;
    const REDIRECT: u32 = uapi::netkit_action_NETKIT_REDIRECT as u32;

    /// Parses a request, and returns what does not borrow from it.
    fn parse(link: &Request<LinkAttrs>, data: &Request<NetkitAttrs>) -> Result<(Mode, End, End)> {
        let config = Config::parse(link.attrs(), data.attrs(), ExtAck::none())?;

        Ok((config.mode, config.primary, config.peer.end))
    }

    #[test]
    fn defaults() -> Result {
        let (link, data) = (Request::new()?, Request::new()?);
        let config = Config::parse(link.attrs(), data.attrs(), ExtAck::none())?;
        let end = End {
            policy: Action::PASS,
            scrub: Scrub::Default,
        };

        assert_eq!(config.mode, Mode::L3);
        assert_eq!(config.pairing, Pairing::Pair);
        assert_eq!(config.primary, end);
        assert_eq!(config.peer.end, end);
        assert_eq!((config.headroom, config.tailroom), (0, 0));
        Ok(())
    }

    #[test]
    fn ends_are_told_apart() -> Result {
        let data = Request::new()?
            .with(NetkitAttrs::MODE, L2)?
            .with(NetkitAttrs::PEER_POLICY, DROP)?
            .with(NetkitAttrs::SCRUB, Scrub::None as u32)?;
        let (mode, primary, peer) = parse(&Request::new()?, &data)?;

        assert_eq!(mode, Mode::L2);
        assert_eq!((primary.policy, peer.policy), (Action::PASS, Action::DROP));
        assert_eq!((primary.scrub, peer.scrub), (Scrub::None, Scrub::Default));
        Ok(())
    }

    #[test]
    fn policies_pass_or_drop() -> Result {
        for key in [NetkitAttrs::POLICY, NetkitAttrs::PEER_POLICY] {
            for value in [1, REDIRECT, u32::MAX] {
                let data = Request::new()?.with(key, value)?;

                assert_eq!(parse(&Request::new()?, &data), Err(EINVAL));
            }
        }
        Ok(())
    }

    #[test]
    fn addresses_need_l2() -> Result {
        let link = || Request::new()?.with_bytes(LinkAttrs::ADDRESS, &[2, 0, 0, 0, 0, 1]);
        let l2 = Request::new()?.with(NetkitAttrs::MODE, L2)?;

        assert_eq!(parse(&link()?, &Request::new()?), Err(EOPNOTSUPP));
        assert!(parse(&link()?, &l2).is_ok());
        Ok(())
    }

    #[test]
    fn single_devices_have_nothing_of_a_pair() -> Result {
        let single = || Request::new()?.with(NetkitAttrs::PAIRING, SINGLE);
        let refused = [
            single()?.with(NetkitAttrs::POLICY, DROP)?,
            single()?.with(NetkitAttrs::PEER_POLICY, 0)?,
            single()?.with(NetkitAttrs::SCRUB, Scrub::Default as u32)?,
            single()?.with(NetkitAttrs::PEER_SCRUB, Scrub::Default as u32)?,
        ];

        for data in &refused {
            assert_eq!(parse(&Request::new()?, data), Err(EOPNOTSUPP));
        }
        assert!(parse(&Request::new()?, &single()?.with(NetkitAttrs::POLICY, 0)?).is_ok());
        Ok(())
    }

    #[test]
    fn room_is_read() -> Result {
        let data = Request::new()?
            .with(NetkitAttrs::HEADROOM, 100)?
            .with(NetkitAttrs::TAILROOM, u16::MAX)?;
        let link = Request::new()?;
        let config = Config::parse(link.attrs(), data.attrs(), ExtAck::none())?;

        assert_eq!((config.headroom, config.tailroom), (100, u16::MAX));
        Ok(())
    }

    #[test]
    fn policies_alone_can_change() -> Result {
        let refused = [
            Request::new()?.with(NetkitAttrs::MODE, L2)?,
            Request::new()?.with(NetkitAttrs::SCRUB, 0)?,
            Request::new()?.with(NetkitAttrs::PEER_SCRUB, 0)?,
            Request::new()?.with(NetkitAttrs::HEADROOM, 0)?,
            Request::new()?.with(NetkitAttrs::TAILROOM, 0)?,
            Request::new()?.with(NetkitAttrs::PAIRING, SINGLE)?,
        ];
        let policies = Request::new()?
            .with(NetkitAttrs::POLICY, DROP)?
            .with(NetkitAttrs::PEER_POLICY, DROP)?;

        for data in &refused {
            assert_eq!(refuse_fixed(data.attrs(), ExtAck::none()), Err(EACCES));
        }
        assert!(refuse_fixed(policies.attrs(), ExtAck::none()).is_ok());
        Ok(())
    }
}
