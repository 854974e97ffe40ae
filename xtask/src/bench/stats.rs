//! What a server process has used, as the kernel counts it.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time, user and system.
    pub(crate) cpu: Duration,
    /// The most memory that has been resident, in bytes.
    pub(crate) peak_resident: u64,
}

/// The kernel counts processor time for user space in hundredths of a second on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

impl Usage {
    /// What a process and its children that have ended used; nothing where the process is not known.
    pub(crate) fn of(pid: Option<u32>) -> Self {
        pid.and_then(read).unwrap_or_default()
    }
}

fn read(pid: u32) -> Option<Usage> {
    let cpu = cpu(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Usage { cpu, peak_resident: kibibytes(&status, "VmHWM:")? })
}

/// Follows a process to its end, and gives what it used. It must be waited for afterwards, and not before.
pub(crate) fn follow(pid: u32) -> Usage {
    let mut usage = Usage::default();
    loop {
        if let Some(now) = read(pid) {
            usage = now;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
        if rest.is_empty() || rest.starts_with('Z') {
            // What has ended has no memory any more, but its time is still known.
            usage.cpu = cpu(&stat).unwrap_or(usage.cpu);
            return usage;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn cpu(stat: &str) -> Option<Duration> {
    // The command's name is in parentheses and may hold anything; the fields after it are numbers.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u32 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u32>().ok()).sum();
    Some(TICK * ticks)
}

/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks at the anonymous memory of a process again and again.
pub(crate) struct Watch {
    stop: mpsc::Sender<()>,
    looking: JoinHandle<u64>,
}

impl Watch {
    pub(crate) fn begin(pid: u32) -> Self {
        let (stop, stopped) = mpsc::channel();
        let looking = std::thread::spawn(move || {
            let mut most = 0;
            loop {
                most = most.max(anonymous(pid).unwrap_or(0));
                if stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return most;
                }
            }
        });
        Self { stop, looking }
    }

    /// The most that was seen, in bytes; 0 if the process was never there.
    pub(crate) fn end(self) -> u64 {
        drop(self.stop);
        self.looking.join().unwrap_or(0)
    }
}

/// The anonymous memory of a process, in bytes: what it has for itself, without the files that it
/// has mapped.
pub(crate) fn anonymous(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kibibytes(&status, "RssAnon:")
}

/// A field of a process's status, in bytes.
fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = value.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// The process that listens on a port of this machine.
pub(crate) fn listener(port: u16) -> Option<u32> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        let inodes = text.lines().skip(1).filter_map(|line| listening_inode(line, port));
        sockets.extend(inodes.map(|inode| format!("socket:[{inode}]")));
    }
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten() {
            if let Ok(link) = fs::read_link(descriptor.path())
                && sockets.iter().any(|socket| link.as_os_str() == socket.as_str())
            {
                return Some(pid);
            }
        }
    }
    None
}

fn listening_inode(line: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    let listens = fields.get(3) == Some(&LISTEN) && u16::from_str_radix(local, 16) == Ok(port);
    listens.then(|| fields.get(9).copied()).flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(super::listener(port), Some(std::process::id()));
        let usage = super::Usage::of(Some(std::process::id()));
        assert!(usage.peak_resident > 0);
    }

    #[test]
    fn memory_that_is_given_back_has_been_seen() {
        const SIZE: usize = 64 << 20;
        let watch = super::Watch::begin(std::process::id());
        let taken = vec![1; SIZE];
        // Until it has been looked at with that.
        while super::anonymous(std::process::id()).unwrap() < SIZE as u64 {}
        std::thread::sleep(2 * super::LOOK_EVERY);
        drop(std::hint::black_box(taken));
        assert!(watch.end() >= SIZE as u64);
    }
}
