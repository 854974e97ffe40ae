//! What a server process has used, as the kernel counts it.

use std::fs;
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
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(Usage { cpu, peak_resident: peak << 10 })
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
}
