//! `latentd models convert`: a part of a model stored in fewer bits.

use crate::args::ConvertArgs;
use crate::config::ConfigError;
use crate::new_file::{self, NewFile};
use crate::progress::{Progress, Stop};
use anyhow::Context;
use indicatif::DecimalBytes;
use latentd_models::{Component, Conversion, ConvertTo};
use std::io::{BufWriter, Write};
use tokio::runtime::Handle;

/// Bytes written at a time.
const CHUNK: usize = 1 << 20;

/// Converts, and says what came out of it.
pub(crate) fn convert(args: &ConvertArgs) -> anyhow::Result<()> {
    let ConvertArgs { path, to, part, output } = args;
    let to = ConvertTo::named(to).with_context(|| format!("--to {to}"))?;
    let part = if part == "t5" { Component::T5 } else { Component::Transformer };
    let extension = to.extension();
    if output.extension().is_none_or(|given| given != extension) {
        let output = output.display();
        return Err(
            ConfigError(format!("--output {output}: a file of this type ends in .{extension}")).into()
        );
    }
    let target = new_file::target(output)?;
    let conversion = Conversion::new(path, part, to)?;
    let stop = Stop::at_signals(&Handle::current())?;
    let file = NewFile::create(&target)?;
    // In the bytes that all values take in f32.
    let progress = Progress::new("converting", 4 * conversion.values(), &stop);
    let mut out = BufWriter::with_capacity(CHUNK, &file.file);
    let converted = conversion.write(&mut out, &mut |values| progress.add(4 * values));
    let converted = converted.with_context(|| file.name())?;
    out.flush().and_then(|()| file.file.sync_all()).with_context(|| file.name())?;
    drop((out, progress));
    file.publish(&target)?;
    let tensors = converted.tensors.iter().map(|(dtype, count)| format!("{count} in {dtype}"));
    let tensors = tensors.collect::<Vec<_>>().join(", ");
    eprintln!("{}: {}, tensors: {tensors}", target.display(), DecimalBytes(converted.bytes));
    Ok(())
}
