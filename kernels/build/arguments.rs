//! Writes `cuda/arguments.cuh`: the declarations of `src/cuda/arguments/declared.rs` in C++, with the sizes and offsets of
//! rustc as static assertions.

use std::fmt::Write;
use std::fs;
use std::io;
use std::marker::PhantomData;

const HEADER: &str = "cuda/arguments.cuh";

const OPENING: &str = "\
// The kernels' arguments, and the numbers that they share with their launches. The build writes this file from
// src/cuda/arguments/declared.rs. `each` is for the emulator, which looks at every address.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <stddef.h>
#include <stdint.h>

";

/// Writes the header only if it changed, so that files that include it are compiled again only then.
pub(super) fn write() -> io::Result<()> {
    let header = String::from(OPENING) + &declared::constants() + &declared::structs();
    if fs::read_to_string(HEADER).is_ok_and(|old| old == header) {
        return Ok(());
    }
    fs::write(HEADER, header)
}

struct T;
struct Bf16;
struct E4m3;
struct Pair;

#[repr(C)]
struct In<E>(u64, PhantomData<E>);

#[repr(C)]
struct Out<E>(u64, PhantomData<E>);

/// What a member or an element may be, as C++ spells it.
trait Spelled {
    fn spelled() -> String;
}

macro_rules! spelled {
    ($($kind:ty => $spelled:literal,)*) => {$(
        impl Spelled for $kind {
            fn spelled() -> String {
                $spelled.into()
            }
        }
    )*};
}

spelled! {
    T => "T",
    Bf16 => "__nv_bfloat16",
    E4m3 => "__nv_fp8_e4m3",
    Pair => "float2",
    f32 => "float",
    u8 => "uint8_t",
    u32 => "uint32_t",
    u64 => "uint64_t",
    i32 => "int32_t",
    i64 => "int64_t",
}

impl<E: Spelled> Spelled for In<E> {
    fn spelled() -> String {
        format!("const {}*", E::spelled())
    }
}

impl<E: Spelled> Spelled for Out<E> {
    fn spelled() -> String {
        format!("{}*", E::spelled())
    }
}

struct Member {
    name: &'static str,
    kind: String,
    offset: usize,
    doc: &'static [&'static str],
}

fn comment(out: &mut String, indent: &str, doc: &[&str]) {
    for line in doc {
        let _ = writeln!(out, "{indent}//{line}");
    }
}

/// `name` is spelled as a type: `Name`, or `Name<T>`.
fn declare(name: &str, doc: &[&str], size: usize, members: &[Member]) -> String {
    let mut out = String::new();
    let (plain, generic) = name.strip_suffix("<T>").map_or((name, false), |plain| (plain, true));
    comment(&mut out, "", doc);
    if generic {
        out += "template <typename T>\n";
    }
    let _ = writeln!(out, "struct {plain} {{");
    for Member { name, kind, doc, .. } in members {
        comment(&mut out, "  ", doc);
        let _ = writeln!(out, "  {kind} {name};");
    }
    let calls: Vec<_> = members.iter().map(|member| format!("f({});", member.name)).collect();
    out += "\n  template <typename F>\n  void each(F f) const {\n";
    for line in calls.chunks(6) {
        let _ = writeln!(out, "    {}", line.join(" "));
    }
    out += "  }\n};\n";
    // An address has one size, whatever it points at.
    let of = if generic { format!("{plain}<float>") } else { plain.into() };
    let offset = |member: &Member| format!("offsetof({of}, {}) == {}", member.name, member.offset);
    let facts: Vec<_> = members.iter().map(offset).collect();
    let _ = writeln!(out, "static_assert(sizeof({of}) == {size});");
    for facts in facts.chunks(2) {
        let _ = writeln!(out, "static_assert({});", facts.join(" && "));
    }
    out + "\n"
}

macro_rules! constants {
    ($($(#[doc = $doc:expr])* const $name:ident = $value:expr;)*) => {
        pub(super) fn constants() -> String {
            let mut out = String::new();
            $(
                super::comment(&mut out, "", &[$($doc),*]);
                out += concat!("constexpr int ", stringify!($name), " = ", $value, ";\n");
            )*
            out + "\n"
        }
    };
}

macro_rules! arguments {
    ($($(#[doc = $doc:expr])* struct $name:ident $(<$storage:ident>)? {
        $($(#[doc = $member_doc:expr])* $member:ident: $kind:ty,)*
    })*) => {
        $(
            #[repr(C)]
            struct $name {
                $($member: $kind,)*
            }

            impl super::Spelled for $name {
                fn spelled() -> String {
                    concat!(stringify!($name) $(, "<", stringify!($storage), ">")?).into()
                }
            }
        )*

        pub(super) fn structs() -> String {
            let mut out = String::new();
            $(
                let members = [$(super::Member {
                    name: stringify!($member),
                    kind: <$kind as super::Spelled>::spelled(),
                    offset: std::mem::offset_of!($name, $member),
                    doc: &[$($member_doc),*],
                }),*];
                let name = <$name as super::Spelled>::spelled();
                out += &super::declare(&name, &[$($doc),*], size_of::<$name>(), &members);
            )*
            out.truncate(out.trim_end().len());
            out + "\n"
        }
    };
}

#[path = "../src/cuda/arguments/declared.rs"]
mod declared;
