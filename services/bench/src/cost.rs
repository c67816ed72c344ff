//! What a process has cost so far, as the kernel counts it.

use std::time::Duration;

/// What a process has cost since it was started, with the `exec` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cost {
    /// The time that its threads have run on a processor.
    pub(crate) cpu: Duration,
    /// The most memory that it ever had, in bytes: its peak resident set size.
    pub(crate) peak_memory: u64,
}

/// The kernel does not say what the process has cost: it has ended, or this is no Linux.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {file} of process {pid}")]
pub(crate) struct NotCounted {
    pid: u32,
    file: &'static str,
    source: Option<std::io::Error>,
}

impl Cost {
    /// What the running process has cost.
    ///
    /// The times are those of the threads' `schedstat`, in nanoseconds; `stat` counts ticks of 10 ms, longer than a whole
    /// cold start. A thread that has ended is not in it: those that Node, Python and tokio start live on, idle.
    ///
    /// # Errors
    /// [`NotCounted`]
    pub(crate) fn of(pid: u32) -> Result<Cost, NotCounted> {
        let failed = |file, source| NotCounted { pid, file, source };
        let mut nanos = 0;
        let threads =
            std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|source| failed("task", Some(source)))?;
        for thread in threads {
            let thread = thread.map_err(|source| failed("task", Some(source)))?;
            // It may have ended just now.
            if let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) {
                nanos += on_processor(&text).ok_or_else(|| failed("schedstat", None))?;
            }
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
            .map_err(|source| failed("status", Some(source)))?;
        Ok(Cost {
            cpu: Duration::from_nanos(nanos),
            peak_memory: peak_memory(&status).ok_or_else(|| failed("status", None))?,
        })
    }
}

/// The first number of a `schedstat`, nanoseconds.
fn on_processor(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

fn peak_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        assert_eq!(on_processor("179097 103313 2\n"), Some(179_097));
        assert_eq!(on_processor(""), None);
        let status = "Name:\tbackend\nVmPeak:\t   12 kB\nVmHWM:\t    7168 kB\nVmRSS:\t 4 kB\n";
        assert_eq!(peak_memory(status), Some(7_168 * 1_024));
        assert_eq!(peak_memory("Name:\tbackend\n"), None);
    }

    #[test]
    fn work_and_memory_show_in_what_a_process_has_cost() {
        let own = std::process::id();
        let before = Cost::of(own).unwrap();
        let mut memory = vec![0_u8; 32 << 20];
        let mut state = 1_u8;
        for byte in &mut memory {
            state = state.wrapping_mul(31).wrapping_add(7);
            *byte = state;
        }
        assert!(std::hint::black_box(&memory).iter().any(|byte| *byte != 0));
        let after = Cost::of(own).unwrap();
        assert!(after.cpu > before.cpu + Duration::from_millis(1));
        assert!(after.peak_memory >= 32 << 20);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Cost::of(u32::MAX).is_err());
    }
}
