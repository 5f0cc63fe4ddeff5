// SPDX-License-Identifier: GPL-2.0

//! Netlink attributes: reading those of a request, writing those of a report.
//!
//! A family of attributes is described once, by [`nl_attributes!`](crate::nl_attributes): from one
//! list come the policy table that the kernel validates requests against, and a typed [`Key`] for
//! each attribute. A value can only be read, and only be written, by its key; so the type in the
//! code cannot drift from the type in the policy.
//!
//! C header: [`include/net/netlink.h`](srctree/include/net/netlink.h)

use crate::{
    bindings,
    num::casts::u32_as_usize,
    prelude::*,
    str::as_char_ptr_in_const_context, //
};
use core::{
    marker::PhantomData,
    mem::size_of,
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};

#[cfg(CONFIG_KUNIT)]
mod request;

#[cfg(CONFIG_KUNIT)]
pub use request::Request;

/// One attribute of a netlink message.
///
/// # Invariants
///
/// The pointer refers to an attribute, header and payload, that is valid for reads during `'a`.
#[derive(Clone, Copy)]
pub struct Attr<'a>(NonNull<bindings::nlattr>, PhantomData<&'a bindings::nlattr>);

impl<'a> Attr<'a> {
    /// Size of the header in front of the payload, in bytes.
    const HEADER: usize = align(size_of::<bindings::nlattr>());

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(self) -> *mut bindings::nlattr {
        self.0.as_ptr()
    }

    /// Returns the payload.
    #[inline]
    pub fn payload(self) -> &'a [u8] {
        // SAFETY: By the type invariants the header can be read.
        let len = usize::from(unsafe { (*self.as_raw()).nla_len });

        // SAFETY: By the type invariants the payload, which follows the header, can be read during
        // `'a`; a netlink message is not written to while its request is handled.
        unsafe {
            slice::from_raw_parts(
                self.as_raw().cast::<u8>().add(Self::HEADER),
                len.saturating_sub(Self::HEADER),
            )
        }
    }
}

/// Rounds up to the alignment of netlink attributes, as `NLA_ALIGN()` does.
const fn align(len: usize) -> usize {
    len.next_multiple_of(u32_as_usize(bindings::NLA_ALIGNTO))
}

/// What requests may carry in one attribute: an entry of a policy table, C's `struct nla_policy`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Policy(bindings::nla_policy);

// SAFETY: A policy is constant; its pointers, if any, refer to constants.
unsafe impl Send for Policy {}

// SAFETY: As above.
unsafe impl Sync for Policy {}

impl Policy {
    /// The policy of attributes that are not known.
    pub const UNKNOWN: Self = Self(pin_init::zeroed());

    const fn of_type(ty: u32) -> Self {
        let mut policy = Self::UNKNOWN;

        policy.0.type_ = ty as u8;
        policy
    }

    const fn min_len(len: u16) -> Self {
        let mut policy = Self::of_type(bindings::NLA_UNSPEC);

        policy.0.len = len;
        policy
    }

    /// Refuses values above `max`, as `NLA_POLICY_MAX()` does. As a constant, it fails the build if
    /// a policy cannot express that: of attributes other than unsigned integers, or of a limit that
    /// is too great.
    pub const fn max(mut self, max: u32) -> Self {
        assert!(
            matches!(
                self.0.type_ as u32,
                bindings::NLA_U8 | bindings::NLA_U16 | bindings::NLA_U32
            ),
            "only numbers have a greatest value"
        );
        assert!(max <= i16::MAX as u32, "a policy cannot express this limit");

        self.0.validation_type = bindings::nla_policy_validation_NLA_VALIDATE_MAX as u8;
        self.0.__bindgen_anon_1.__bindgen_anon_1 =
            bindings::nla_policy__bindgen_ty_1__bindgen_ty_1 {
                min: 0,
                max: max as i16,
            };
        self
    }

    /// Refuses the attribute altogether, with this message: it is for reports only.
    pub const fn reject(self, msg: &'static CStr) -> Self {
        let mut policy = Self::of_type(bindings::NLA_REJECT);

        policy.0.__bindgen_anon_1.reject_message = as_char_ptr_in_const_context(msg);
        policy
    }
}

/// A type that an attribute can carry in requests.
///
/// # Safety
///
/// [`Payload::read`] must be sound for each attribute that was validated against
/// [`Payload::POLICY`], or against a policy that narrows it.
pub unsafe trait Payload {
    /// What a reader gets.
    type Value<'a>;

    /// The policy that makes [`Payload::read`] sound.
    const POLICY: Policy;

    /// Reads the value.
    ///
    /// # Safety
    ///
    /// The attribute must have been validated against [`Payload::POLICY`].
    unsafe fn read(attr: Attr<'_>) -> Self::Value<'_>;
}

/// An integer, which can also be written to reports.
///
/// # Safety
///
/// All bytes of a value must be initialised.
pub unsafe trait Scalar: Payload + Copy {}

macro_rules! impl_scalar {
    ($($ty:ty => $nla_type:ident),* $(,)?) => {$(
        // SAFETY: The policy admits only attributes with at least as many bytes as the integer has.
        unsafe impl Payload for $ty {
            type Value<'a> = $ty;

            const POLICY: Policy = Policy::of_type(bindings::$nla_type);

            #[inline]
            unsafe fn read(attr: Attr<'_>) -> $ty {
                // SAFETY: The caller guarantees that the payload holds the integer.
                unsafe { attr.payload().as_ptr().cast::<$ty>().read_unaligned() }
            }
        }

        // SAFETY: Integers have no padding.
        unsafe impl Scalar for $ty {}
    )*};
}

impl_scalar! {
    u8 => NLA_U8,
    u16 => NLA_U16,
    u32 => NLA_U32,
}

/// An attribute read as the bytes it is made of.
pub struct Bytes;

// SAFETY: Every attribute is made of bytes.
unsafe impl Payload for Bytes {
    type Value<'a> = &'a [u8];

    const POLICY: Policy = Policy::of_type(bindings::NLA_BINARY);

    #[inline]
    unsafe fn read(attr: Attr<'_>) -> &[u8] {
        attr.payload()
    }
}

/// An attribute of any type, read as it is. See [`Key::raw`].
pub struct Raw;

// SAFETY: Every attribute can be read as it is.
unsafe impl Payload for Raw {
    type Value<'a> = Attr<'a>;

    const POLICY: Policy = Policy::UNKNOWN;

    #[inline]
    unsafe fn read(attr: Attr<'_>) -> Attr<'_> {
        attr
    }
}

/// An attribute that starts with a C structure `T`, read as it is.
///
/// For types elsewhere in this crate that know what follows the structure.
pub struct Prefixed<T>(PhantomData<T>);

// SAFETY: Every attribute can be read raw.
unsafe impl<T> Payload for Prefixed<T> {
    type Value<'a> = Attr<'a>;

    const POLICY: Policy = Policy::min_len(size_of::<T>() as u16);

    #[inline]
    unsafe fn read(attr: Attr<'_>) -> Attr<'_> {
        attr
    }
}

/// A family of attributes, numbered from 1 to [`Family::MAX`].
pub trait Family: 'static {
    /// The highest attribute number.
    const MAX: usize;
}

/// A family with a policy table. Described by [`nl_attributes!`](crate::nl_attributes).
pub trait Validated: Family {
    /// One entry for each attribute number, 0 included.
    const POLICY: &'static [Policy];
}

/// Names an attribute of family `F` that carries a `P`.
///
/// # Invariants
///
/// - The number is at most `F::MAX`.
/// - Attributes of the family are validated against a policy that lets nothing through for this
///   number that [`Payload::read`] of `P` cannot read.
pub struct Key<F, P> {
    number: u16,
    _p: PhantomData<fn() -> (F, P)>,
}

impl<F, P> Clone for Key<F, P> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, P> Copy for Key<F, P> {}

impl<F: Family, P: Payload> Key<F, P> {
    /// Creates a key. As a constant, it fails the build if the number is out of the family's range.
    ///
    /// # Safety
    ///
    /// The policy that the attributes of the family are validated against must not let anything
    /// through for this number that `P` cannot read.
    pub const unsafe fn new(number: u32) -> Self {
        assert!(number as usize <= F::MAX && F::MAX <= u16::MAX as usize);

        // INVARIANT: Checked above, and guaranteed by the caller.
        Self {
            number: number as u16,
            _p: PhantomData,
        }
    }

    /// Returns a key for the attribute itself, of whatever type: keys can then be put in one table.
    #[inline]
    pub const fn raw(self) -> Key<F, Raw> {
        // INVARIANT: The number is the same, and every attribute can be read as it is.
        Key {
            number: self.number,
            _p: PhantomData,
        }
    }

    /// Returns the number of the attribute.
    #[inline]
    pub const fn number(self) -> u16 {
        self.number
    }
}

impl<F: Family, P: Scalar> Key<F, P> {
    /// Returns the room that the attribute takes in a message, in bytes.
    ///
    /// The counterpart of `nla_total_size()`.
    #[inline]
    pub const fn room(self) -> usize {
        align(Attr::HEADER + size_of::<P>())
    }
}

/// The attributes of a request, sorted by number.
///
/// # Invariants
///
/// The pointer, if any, refers to `F::MAX + 1` pointers that are valid for reads during `'a`. Each
/// is null or points to an attribute, valid during `'a`, that [`Payload::read`] of its [`Key`] can
/// read. Those that passed the family's policy are such.
pub struct AttrSet<'a, F> {
    table: Option<NonNull<*mut bindings::nlattr>>,
    _p: PhantomData<&'a F>,
}

impl<F> Clone for AttrSet<'_, F> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for AttrSet<'_, F> {}

impl<'a, F: Family> AttrSet<'a, F> {
    /// Wraps a table as the C parser fills it; null stands for a set without attributes.
    ///
    /// # Safety
    ///
    /// If not null, `table` must point to `F::MAX + 1` pointers, all valid for the whole of `'a`,
    /// each null or to an attribute that was validated against the family's policy, or that is as
    /// long as if it had been.
    #[inline]
    pub unsafe fn from_raw(table: *mut *mut bindings::nlattr) -> Self {
        // INVARIANT: The caller guarantees it.
        Self {
            table: NonNull::new(table),
            _p: PhantomData,
        }
    }

    /// Returns the C pointer, or null.
    #[inline]
    pub fn as_raw(self) -> *mut *mut bindings::nlattr {
        self.table.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Returns the attribute itself, to point at it in an error message.
    #[inline]
    pub fn attr<P>(self, key: Key<F, P>) -> Option<Attr<'a>> {
        let table = self.table?;

        // SAFETY: By the invariants of `Key` and of this type, the table has such an entry.
        let attr = unsafe { *table.as_ptr().add(usize::from(key.number)) };

        // INVARIANT: By the invariants of this type, the attribute is valid during `'a`.
        NonNull::new(attr).map(|attr| Attr(attr, PhantomData))
    }

    /// Returns the value of the attribute, if the request carries it.
    #[inline]
    pub fn get<P: Payload>(self, key: Key<F, P>) -> Option<P::Value<'a>> {
        // SAFETY: By the invariants of this type, the attribute is one that `P` can read.
        self.attr(key).map(|attr| unsafe { P::read(attr) })
    }

    /// Tells whether the request carries the attribute.
    #[inline]
    pub fn has<P>(self, key: Key<F, P>) -> bool {
        self.attr(key).is_some()
    }
}

/// A report being written: attributes are appended to a netlink message.
///
/// # Invariants
///
/// The pointer refers to a message under construction that nobody else uses during `'a`.
pub struct MsgWriter<'a>(
    NonNull<bindings::sk_buff>,
    PhantomData<&'a mut bindings::sk_buff>,
);

impl MsgWriter<'_> {
    /// Wraps the message that a report callback is given.
    ///
    /// # Safety
    ///
    /// `skb` must be a netlink message that is valid, and used by nobody else, for the lifetime of
    /// the result.
    #[inline]
    pub unsafe fn from_raw(skb: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: The caller guarantees it.
        Self(skb, PhantomData)
    }

    /// Appends an attribute.
    ///
    /// Returns [`EMSGSIZE`] if the message has no room for it.
    pub fn put<F: Family, P: Scalar>(&mut self, key: Key<F, P>, value: P) -> Result {
        // SAFETY: By the type invariants the message can be written; `value` has the size given.
        let ret = unsafe {
            bindings::nla_put(
                self.0.as_ptr(),
                c_int::from(key.number),
                size_of::<P>() as c_int,
                ptr::from_ref(&value).cast(),
            )
        };

        if ret == 0 {
            Ok(())
        } else {
            Err(EMSGSIZE)
        }
    }
}

/// Describes a family of netlink attributes.
///
/// Each line names a key, the type that the attribute carries ([`Payload`]), optionally a narrower
/// policy (`max(..)` or `reject(..)`, see [`Policy`]), and its number. A number that is out of
/// range or used twice fails the build.
///
/// # Examples
///
/// ```
/// use kernel::{net::nlattr::{AttrSet, Validated}, nl_attributes};
///
/// nl_attributes! {
///     /// The attributes of a device that counts.
///     pub struct CounterAttrs(max = 2) {
///         /// Where to start.
///         START: u32 = 1,
///         /// How far to go in one step.
///         STEP: u8 [max(16)] = 2,
///     }
/// }
///
/// assert_eq!(CounterAttrs::POLICY.len(), 3);
/// assert_eq!(CounterAttrs::START.room(), 8);
///
/// // A request that carries no attributes:
/// // SAFETY: Null is a set without attributes.
/// let none: AttrSet<'_, CounterAttrs> = unsafe { AttrSet::from_raw(core::ptr::null_mut()) };
/// assert_eq!(none.get(CounterAttrs::STEP), None);
/// ```
#[macro_export]
macro_rules! nl_attributes {
    (
        $(#[$outer:meta])*
        $vis:vis struct $family:ident(max = $max:expr) {
            $(
                $(#[$inner:meta])*
                $key:ident: $ty:ty $([$check:ident($arg:expr)])? = $number:expr
            ),* $(,)?
        }
    ) => {
        $(#[$outer])*
        $vis struct $family;

        impl $crate::net::nlattr::Family for $family {
            const MAX: usize = $max as usize;
        }

        impl $crate::net::nlattr::Validated for $family {
            const POLICY: &'static [$crate::net::nlattr::Policy] = &{
                let mut policy =
                    [$crate::net::nlattr::Policy::UNKNOWN; $max as usize + 1];
                let mut seen = [false; $max as usize + 1];
                $(
                    ::core::assert!(!seen[$number as usize], "attribute number used twice");
                    seen[$number as usize] = true;
                    policy[$number as usize] =
                        <$ty as $crate::net::nlattr::Payload>::POLICY$(.$check($arg))?;
                )*
                policy
            };
        }

        #[allow(dead_code, reason = "some attributes are known only to be refused")]
        impl $family {
            $(
                $(#[$inner])*
                $vis const $key: $crate::net::nlattr::Key<Self, $ty> =
                    // SAFETY: The policy above has, for this number, the policy of the type or one
                    // that narrows it.
                    unsafe { $crate::net::nlattr::Key::new($number as u32) };
            )*
        }
    };
}

#[macros::kunit_tests(rust_net_nlattr)]
mod tests {
    use super::*;

    nl_attributes! {
        struct TestAttrs(max = 4) {
            BYTE: u8 = 1,
            HALF: u16 = 2,
            WORD: u32 [max(7)] = 3,
            REPORTED: u32 [reject(c"read-only")] = 4,
        }
    }

    #[test]
    fn values_are_read_by_key() -> Result {
        let request = Request::new()?
            .with(TestAttrs::BYTE, 0x12)?
            .with(TestAttrs::WORD, 0x1234_5678)?;
        let attrs = request.attrs();

        assert_eq!(attrs.get(TestAttrs::BYTE), Some(0x12));
        assert_eq!(attrs.get(TestAttrs::HALF), None);
        assert_eq!(attrs.get(TestAttrs::WORD), Some(0x1234_5678));
        assert!(!attrs.has(TestAttrs::REPORTED));

        let byte = attrs.attr(TestAttrs::BYTE).ok_or(ENOENT)?;

        assert_eq!(byte.payload(), &[0x12]);
        Ok(())
    }

    #[test]
    fn room_is_header_and_padded_payload() {
        assert_eq!(TestAttrs::BYTE.room(), 8);
        assert_eq!(TestAttrs::HALF.room(), 8);
        assert_eq!(TestAttrs::WORD.room(), 8);
    }

    #[test]
    fn policy_has_types_and_limits() {
        let policy = TestAttrs::POLICY;

        assert_eq!(policy.len(), 5);
        assert_eq!(u32::from(policy[0].0.type_), bindings::NLA_UNSPEC);
        assert_eq!(u32::from(policy[2].0.type_), bindings::NLA_U16);
        assert_eq!(u32::from(policy[3].0.type_), bindings::NLA_U32);
        assert_eq!(u32::from(policy[4].0.type_), bindings::NLA_REJECT);

        let limit = bindings::nla_policy_validation_NLA_VALIDATE_MAX;
        assert_eq!(u32::from(policy[3].0.validation_type), limit);
    }
}
