//! The processor's instruction sets: which of them the CPU ops use.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// Instruction sets that the ops are written for; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every processor of the target has: SSE2, NEON.
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL.
    Avx512,
    /// Dot products of bf16 pairs (Cooper Lake, Zen 4).
    Avx512Bf16,
    /// Products of bf16 tiles (Sapphire Rapids).
    Amx,
}

/// What the processor has; the system is asked for it once.
static DETECTED: LazyLock<Isa> = LazyLock::new(detected);
/// Position in [`Isa::ALL`] of the best that may be used.
static LIMIT: AtomicU8 = AtomicU8::new(u8::MAX);

impl Isa {
    /// All, the least first.
    pub const ALL: [Self; 5] = [Self::Baseline, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// What the ops of this process use.
    pub fn in_use() -> Self {
        let limit = Self::ALL.get(usize::from(LIMIT.load(Ordering::Relaxed)));
        limit.map_or(*DETECTED, |limit| (*limit).min(*DETECTED))
    }

    /// Lets the ops of this process use no more than `self`, to run the code of lesser processors. Ops that run meanwhile may
    /// use both.
    pub fn limit(self) {
        LIMIT.store(self as u8, Ordering::Relaxed);
    }

    /// As reports and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512_bf16",
            Self::Amx => "amx",
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Isa {
    Isa::Baseline
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Isa {
    use std::arch::is_x86_feature_detected;
    if pulp::x86::V3::try_new().is_none() {
        Isa::Baseline
    } else if pulp::x86::V4::try_new().is_none() {
        Isa::Avx2
    } else if !is_x86_feature_detected!("avx512bf16") {
        Isa::Avx512
    } else if !has_amx() {
        Isa::Avx512Bf16
    } else {
        Isa::Amx
    }
}

/// Whether the processor has tiles of bf16 and the system saves them.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    const TILES_AND_BF16: u32 = 1 << 24 | 1 << 22;
    let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
    features & TILES_AND_BF16 == TILES_AND_BF16 && tiles_are_granted()
}

/// Asks Linux for the state of tiles, for this process and all its threads.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[expect(unsafe_code, reason = "a system call")]
fn tiles_are_granted() -> bool {
    /// arch/x86/include/uapi/asm/prctl.h
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILE_DATA: libc::c_ulong = 18;
    // SAFETY: this request only widens what is saved when a thread is interrupted.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn tiles_are_granted() -> bool {
    false
}

/// Runs `op` compiled for the widest vectors in use.
#[inline]
pub(crate) fn dispatch<Op: pulp::WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    match Isa::in_use() {
        Isa::Baseline => return pulp::Simd::vectorize(pulp::Scalar, op),
        Isa::Avx2 => {
            if let Some(v3) = pulp::x86::V3::try_new() {
                return pulp::Simd::vectorize(v3, op);
            }
        }
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => (),
    }
    pulp::Arch::new().dispatch(op)
}
