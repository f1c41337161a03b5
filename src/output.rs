//! Standard output of commands, whose reader may leave early: `latentd models list | head -1` ends quietly.
//!
//! The macros replace those of the standard library in this package, which panic there.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// As the standard library's `print!`.
macro_rules! print {
    ($($arg:tt)*) => { $crate::output::write(format_args!($($arg)*), "") };
}

/// As the standard library's `println!`.
macro_rules! println {
    ($($arg:tt)*) => { $crate::output::write(format_args!($($arg)*), "\n") };
}

/// Writes to standard output. Ends the process quietly when the reader has closed the pipe, as SIGPIPE would; other errors
/// are reported once on standard error.
pub(crate) fn write(text: Arguments<'_>, end: &str) {
    let mut output = std::io::stdout().lock();
    let written = output.write_fmt(text).and_then(|()| output.write_all(end.as_bytes()));
    match written.and_then(|()| output.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("latentd: standard output cannot be written: {error}");
            std::process::exit(1);
        }
    }
}
