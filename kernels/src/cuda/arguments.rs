//! What a launch hands to a kernel: one struct, whose declaration (`arguments/declared.rs`) both compilers read.

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use cudarc::driver::{CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg};
use std::marker::PhantomData;

/// The storage type of a kernel, f32 or bf16, where an element type is named.
pub(super) struct T;

/// An element that is bf16 whatever the kernel.
pub(super) struct Bf16;

/// An element of fp8 with four bits of exponent.
pub(super) struct E4m3;

/// Two f32.
pub(super) struct Pair;

/// The device address of elements that a kernel reads; 0 for none.
#[repr(C)]
pub(super) struct In<E>(u64, PhantomData<E>);

/// The device address of elements that a kernel writes, or updates; 0 for none.
#[repr(C)]
pub(super) struct Out<E>(u64, PhantomData<E>);

macro_rules! address {
    ($($name:ident)*) => {$(
        impl<E> $name<E> {
            pub(super) const NONE: Self = Self(0, PhantomData);
        }

        impl<E> From<u64> for $name<E> {
            fn from(address: u64) -> Self {
                Self(address, PhantomData)
            }
        }

        impl<E> Clone for $name<E> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<E> Copy for $name<E> {}
    )*};
}
address!(In Out);

/// A struct that kernels take by value.
pub(super) trait Arguments: DeviceRepr {}

/// Makes the structs. `struct Name<T>` has addresses of the kernel's storage type.
macro_rules! arguments {
    ($($(#[doc = $doc:expr])* struct $name:ident $(<$storage:ident>)? {
        $($(#[doc = $member_doc:expr])* $member:ident: $kind:ty,)*
    })*) => {$(
        $(#[doc = $doc])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(in crate::cuda) struct $name {
            $($(#[doc = $member_doc])* pub(in crate::cuda) $member: $kind,)*
        }

        // SAFETY: `repr(C)`, of numbers, addresses and such structs, of which `cuda/arguments.cuh` has the same.
        #[expect(unsafe_code, reason = "a promise on its layout")]
        unsafe impl super::DeviceRepr for $name {}

        impl super::Arguments for $name {}
    )*};
}

macro_rules! constants {
    ($($(#[doc = $doc:expr])* const $name:ident = $value:expr;)*) => {$(
        $(#[doc = $doc])*
        pub(in crate::cuda) const $name: u32 = $value;
    )*};
}

mod declared;

pub(super) use declared::*;

/// Launches a kernel with its arguments.
///
/// # Safety
/// The kernel takes an `A`, whose addresses are device memory of what the kernel reads and writes there, live in the
/// stream's order, and the grid is the one that the kernel expects.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(super) unsafe fn launch<A: Arguments>(
    stream: &CudaStream,
    kernel: &CudaFunction,
    config: LaunchConfig,
    arguments: &A,
) -> Result<()> {
    let mut launch = stream.launch_builder(kernel);
    launch.arg(arguments);
    // SAFETY: the caller's.
    unsafe { launch.launch(config) }.w()?;
    Ok(())
}
