// SPDX-License-Identifier: GPL-2.0

//! BPF programs that are attached to devices.
//!
//! C header: [`include/linux/bpf_mprog.h`](srctree/include/linux/bpf_mprog.h)

#[cfg(CONFIG_BPF_SYSCALL)]
use super::{
    setup::{
        is_registered,
        private, //
    },
    Device,
    Driver, //
};
#[cfg(CONFIG_BPF_SYSCALL)]
use crate::{
    bpf::{
        link::LinkInfo,
        mprog::{
            Hook,
            Target, //
        },
    },
    seq_file::{
        seq_print,
        SeqFile, //
    },
};
use crate::{
    net::rtnl::Rtnl,
    prelude::*, //
};

mod sealed {
    pub trait Sealed {}
}

/// What a device keeps for programs: `()` for a driver that runs none, or a
/// [`Hook`](crate::bpf::mprog::Hook).
pub trait Slot: Sync + Sized + sealed::Sealed {
    /// Makes an empty one.
    #[doc(hidden)]
    fn init() -> impl PinInit<Self>;

    /// Takes everything out, before the device goes.
    #[doc(hidden)]
    fn close(&self, rtnl: &Rtnl);
}

impl sealed::Sealed for () {}

impl Slot for () {
    fn init() -> impl PinInit<Self> {
        pin_init::init_zeroed()
    }

    fn close(&self, _rtnl: &Rtnl) {}
}

#[cfg(CONFIG_BPF_SYSCALL)]
impl<T: Target> sealed::Sealed for Hook<T> {}

#[cfg(CONFIG_BPF_SYSCALL)]
impl<T: Target> Slot for Hook<T> {
    fn init() -> impl PinInit<Self> {
        Hook::new()
    }

    fn close(&self, rtnl: &Rtnl) {
        Hook::close(self, rtnl);
    }
}

/// A driver whose devices run the programs that users attach to them.
///
/// Users name a device, and by the attach type, which of its hooks they mean; a driver that
/// implements [`Attach`](crate::bpf::Attach) as well finds the one that they may use.
///
/// # Examples
///
/// ```
/// use kernel::{
///     bindings,
///     bpf::{mprog::{Hook, NEXT}, Attach, NetCtx, Place},
///     net::{
///         device::{Device, Driver, LockClasses, NetDevice, Ops, RunsPrograms, Setup},
///         rtnl::Rtnl,
///         skbuff::{SkBuff, TxContext, XmitResult},
///     },
///     sync::rcu,
/// };
///
/// /// Devices that receive what they send, if their programs let it through.
/// struct Mirror;
///
/// static MIRROR_LOCKS: LockClasses<Mirror> = LockClasses::new();
/// static MIRROR_OPS: Ops<Mirror> = Ops::new(&MIRROR_LOCKS);
///
/// #[vtable]
/// impl Driver for Mirror {
///     type Data = ();
///     type Hook = Hook<Device<Mirror>>;
///
///     const NAME: &'static CStr = c"mirror";
///
///     fn ops() -> &'static Ops<Self> {
///         &MIRROR_OPS
///     }
///
///     fn data() -> impl PinInit<()> {
///         pin_init::init_zeroed()
///     }
///
///     fn setup(_dev: &Setup<Self>) {}
///
///     fn start_xmit(dev: &Device<Self>, skb: SkBuff, tx: &TxContext) -> XmitResult {
///         NetCtx::enter(tx, |context| {
///             let guard = rcu::read_lock();
///             let Ok(frame) = skb.into_frame() else {
///                 return XmitResult::Dropped;
///             };
///             let frame = frame.forward_to(dev);
///
///             match frame.run(dev.hook(), NEXT, context, &guard) {
///                 NEXT if frame.receive(tx) => XmitResult::Sent,
///                 _ => XmitResult::Dropped,
///             }
///         })
///     }
/// }
///
/// impl RunsPrograms for Mirror {
///     const LINK_TYPE: u32 = bindings::bpf_link_type_BPF_LINK_TYPE_TCX;
///
///     fn attach_type_name(_attach_type: u32) -> &'static str {
///         "mirror"
///     }
/// }
///
/// impl Attach for Mirror {
///     type Target = Device<Mirror>;
///
///     fn find<'r>(place: Place, rtnl: &'r Rtnl) -> Result<&'r Device<Mirror>> {
///         let task = current!();
///         let net = task.net_namespace().ok_or(ENODEV)?;
///         let dev = NetDevice::by_index(net, place.ifindex as i32, rtnl).ok_or(ENODEV)?;
///
///         dev.downcast().ok_or(ENXIO)
///     }
/// }
///
/// let rtnl = kernel::net::rtnl::lock();
/// let place = Place { ifindex: 1, attach_type: 0 };
/// // The first interface is the loopback device.
/// assert_eq!(Mirror::find(place, &rtnl).err(), Some(ENXIO));
/// # Ok::<(), Error>(())
/// ```
#[cfg(CONFIG_BPF_SYSCALL)]
pub trait RunsPrograms: Driver<Hook = Hook<Device<Self>>> {
    /// The type of the links to such devices (`BPF_LINK_TYPE_*`).
    const LINK_TYPE: u32;

    /// Returns the name of an attach type (`BPF_*`), as `/proc/PID/fdinfo` shows it.
    fn attach_type_name(attach_type: u32) -> &'static str;
}

#[cfg(CONFIG_BPF_SYSCALL)]
// SAFETY: Each device has a hook of its own. `ndo_uninit` closes it, a grace period before the
// device is freed, and from then on the device is not registered any more.
unsafe impl<T: RunsPrograms> Target for Device<T> {
    const LINK_TYPE: u32 = T::LINK_TYPE;

    #[inline(always)]
    fn hook(&self) -> &Hook<Self> {
        &private(self).hook
    }

    fn is_open(&self, rtnl: &Rtnl) -> bool {
        is_registered(self, rtnl)
    }

    fn show_link(target: Option<&Self>, attach_type: u32, seq: &SeqFile) {
        seq_print!(seq, "ifindex:\t{}\n", ifindex_of(target));
        seq_print!(
            seq,
            "attach_type:\t{} ({})\n",
            attach_type,
            T::attach_type_name(attach_type)
        );
    }

    fn link_info(target: Option<&Self>, attach_type: u32, info: &mut LinkInfo<'_>) {
        info.set_device(ifindex_of(target), attach_type);
    }
}

/// Returns the index of an interface; 0, which no interface has, stands for none.
#[cfg(CONFIG_BPF_SYSCALL)]
fn ifindex_of<T: Driver>(dev: Option<&Device<T>>) -> u32 {
    dev.map_or(0, |dev| dev.ifindex() as u32)
}
