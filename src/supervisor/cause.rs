//! Why a worker died: by a failure of its device or of the program on it, or for another reason.

use crate::worker::ENGINE_FAILED;
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Exit code of a Rust program that panics.
const PANICKED: i32 = 101;

/// Signals that a process gets for what it did itself.
const FAULT_SIGNALS: [(Signal, &str); 6] = [
    (Signal::SEGV, "a segmentation fault (SIGSEGV)"),
    (Signal::BUS, "a bus error (SIGBUS)"),
    (Signal::ABORT, "an abort, as when the engine hangs (SIGABRT)"),
    (Signal::ILL, "an illegal instruction (SIGILL)"),
    (Signal::FPE, "an arithmetic error (SIGFPE)"),
    (Signal::TRAP, "a trap (SIGTRAP)"),
];

/// Why a worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The device, its driver or the program on it failed; words that follow "by".
    Failure(&'static str),
    /// It was killed from outside, which includes the system's killer of processes when memory runs out, or it could not
    /// use the database, the files or the model. Another device would not have helped.
    Outside,
}

impl Cause {
    /// Of a worker that has exited without success.
    pub(super) fn of_exit(status: ExitStatus) -> Self {
        let by_signal = |raw| FAULT_SIGNALS.iter().find(|(signal, _)| signal.as_raw() == raw);
        match (status.signal().and_then(by_signal), status.code()) {
            (Some((_, words)), _) => Self::Failure(words),
            (None, Some(ENGINE_FAILED)) => Self::Failure("an error of the engine, which the log shows"),
            (None, Some(PANICKED)) => Self::Failure("a panic, which the log shows"),
            (None, _) => Self::Outside,
        }
    }

    /// Of a worker that has sent no sign of life for too long, and has not been killed yet. One that somebody stopped
    /// (SIGSTOP, a debugger) is no failure.
    pub(super) fn of_silence(pid: Option<u32>) -> Self {
        let stat = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        if stat.is_some_and(|stat| is_stopped(&stat)) {
            Self::Outside
        } else {
            Self::Failure("a hang of the whole process")
        }
    }
}

/// Whether a line of `/proc/PID/stat` is that of a stopped or traced process. The state follows the program's name, which
/// is in parentheses and may contain some.
fn is_stopped(stat: &str) -> bool {
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_exit(raw: i32) -> Cause {
        Cause::of_exit(ExitStatus::from_raw(raw))
    }

    #[test]
    fn what_a_worker_does_itself_is_a_failure_and_what_is_done_to_it_is_not() {
        for signal in [4, 5, 6, 7, 8, 11] {
            assert!(matches!(of_exit(signal), Cause::Failure(_)), "{signal}");
            assert_eq!(of_exit(signal | 0x80), of_exit(signal), "with a core dump");
        }
        for signal in [1, 2, 3, 9, 13, 15, 24] {
            assert_eq!(of_exit(signal), Cause::Outside, "{signal}");
        }
        for (code, is_failure) in [(1, false), (2, false), (3, false), (ENGINE_FAILED, true), (101, true)] {
            assert_eq!(matches!(of_exit(code << 8), Cause::Failure(_)), is_failure, "{code}");
        }
    }

    #[test]
    fn a_silent_process_that_is_stopped_is_told_from_one_that_hangs() {
        assert!(is_stopped("12 (a) R) T 1 12"));
        assert!(!is_stopped("12 (a) T) D 1 12"));
        let mut sleep = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        assert!(matches!(Cause::of_silence(Some(sleep.id())), Cause::Failure(_)));
        sleep.kill().expect("a process");
        sleep.wait().expect("its end");
    }
}
