// SPDX-License-Identifier: GPL-2.0

//! Requests made by hand, for tests of what drivers make of them.
//!
//! C header: [`include/net/netlink.h`](srctree/include/net/netlink.h)

use super::{
    AttrSet,
    Bytes,
    Family,
    Key,
    Scalar, //
};
use crate::{
    bindings,
    num::casts::u32_as_usize,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// The attributes of a request, sorted by number, in memory of their own.
///
/// # Examples
///
/// ```
/// use kernel::{net::nlattr::Request, nl_attributes};
///
/// nl_attributes! {
///     struct LevelAttrs(max = 1) {
///         LEVEL: u16 = 1,
///     }
/// }
///
/// let request = Request::<LevelAttrs>::new()?.with(LevelAttrs::LEVEL, 7)?;
///
/// assert_eq!(request.attrs().get(LevelAttrs::LEVEL), Some(7));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// Each entry of `table` is null or points to one of `attrs`, which is an attribute that the
/// payload of its [`Key`] can be read from.
pub struct Request<F> {
    attrs: KVec<KVec<u32>>,
    table: KVec<*mut bindings::nlattr>,
    _p: PhantomData<F>,
}

impl<F: Family> Request<F> {
    /// Makes a request without attributes.
    pub fn new() -> Result<Self> {
        Ok(Self {
            attrs: KVec::new(),
            table: KVec::from_elem(ptr::null_mut(), F::MAX + 1, GFP_KERNEL)?,
            _p: PhantomData,
        })
    }

    /// Adds an integer.
    pub fn with<P: Scalar>(self, key: Key<F, P>, value: P) -> Result<Self> {
        // SAFETY: All bytes of a `Scalar` are initialised.
        let bytes = unsafe {
            core::slice::from_raw_parts(ptr::from_ref(&value).cast::<u8>(), size_of::<P>())
        };

        self.add(key.number(), bytes)
    }

    /// Adds bytes.
    ///
    /// Fails with [`EINVAL`] if there are more than a hardware address can have (`MAX_ADDR_LEN`).
    pub fn with_bytes(self, key: Key<F, Bytes>, value: &[u8]) -> Result<Self> {
        if value.len() > u32_as_usize(bindings::MAX_ADDR_LEN) {
            return Err(EINVAL);
        }
        self.add(key.number(), value)
    }

    fn add(mut self, number: u16, payload: &[u8]) -> Result<Self> {
        let len = u16::try_from(size_of::<bindings::nlattr>() + payload.len())?;
        let words = usize::from(len).div_ceil(size_of::<u32>());
        let mut attr = KVec::from_elem(0u32, words, GFP_KERNEL)?;
        let raw = attr.as_mut_ptr().cast::<bindings::nlattr>();

        // SAFETY: There is room for the header, and words are as aligned as it has to be.
        unsafe {
            raw.write(bindings::nlattr {
                nla_len: len,
                nla_type: number,
            })
        };
        // SAFETY: There is room for the payload after the header.
        unsafe { ptr::copy_nonoverlapping(payload.as_ptr(), raw.add(1).cast(), payload.len()) };

        self.attrs.push(attr, GFP_KERNEL)?;
        // INVARIANT: Moving the vector that owns the attribute has not moved the attribute itself.
        self.table[usize::from(number)] = raw;
        Ok(self)
    }

    /// Returns the attributes, as a driver gets them.
    pub fn attrs(&self) -> AttrSet<'_, F> {
        // SAFETY: By the type invariants the table is as `AttrSet` wants it; it is only read from.
        unsafe { AttrSet::from_raw(self.table.as_ptr().cast_mut()) }
    }
}
