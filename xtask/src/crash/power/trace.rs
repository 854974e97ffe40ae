//! Reading what strace recorded: changes of files, syncs and answers, in the order in which they began and ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a system call did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A file was made.
    Create(PathBuf),
    MakeDirectory(PathBuf),
    Write {
        path: PathBuf,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        path: PathBuf,
        length: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink(PathBuf),
    /// Of a file or a directory.
    Sync(PathBuf),
    /// The head of an answer was sent to this port.
    Answer(u16),
}

/// A call began, or it ended. Between the two it may have done its work, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Began(usize, Action),
    Ended(usize),
}

/// The calls that strace is told to record. Those that this file does not know are errors when they touch the directory.
pub(super) const CALLS: &str = "openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,\
symlink,symlinkat,ftruncate,truncate,fallocate,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync,syncfs,\
sync_file_range,msync,copy_file_range,sendfile,splice,sendto,sendmsg,mmap,io_uring_setup";

struct Call<'a> {
    name: &'a str,
    args: Vec<&'a str>,
    result: &'a str,
}

/// The name of the socket by which a server is asked to work. One that is left over has no content, and is made anew.
const SOCKET: &str = "control";

/// Reads a log. What lies outside of `root` is left out, and so is SQLite's shared memory, which no disk keeps.
pub(super) fn read(log: &str, root: &Path) -> Result<Vec<Event>, String> {
    let mut reader = Reader { root, files: HashMap::new(), next: 0, events: Vec::new() };
    // What a thread has begun: where in the log, and the text so far.
    let mut unfinished: HashMap<&str, (usize, &str)> = HashMap::new();
    for (number, line) in log.lines().enumerate() {
        let wrong = |what: &str| {
            let shown: String = line.chars().take(200).collect();
            format!("line {} of the log: {what}: {shown}", number + 1)
        };
        let (thread, text) = line.split_once(' ').ok_or_else(|| wrong("no thread"))?;
        let text = text.trim_start();
        // Signals, ends of threads, and threads that ended in the middle of a call.
        if ["---", "+++", "???"].iter().any(|mark| text.starts_with(mark)) {
            continue;
        }
        if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, (number, begun));
            continue;
        }
        let whole;
        let (begun, text) = match text.strip_prefix("<... ") {
            None => (number, text),
            Some(rest) => {
                let (_, rest) =
                    rest.split_once(" resumed>").ok_or_else(|| wrong("not understood"))?;
                let (at, begun) =
                    unfinished.remove(thread).ok_or_else(|| wrong("it never began"))?;
                whole = format!("{begun}{rest}");
                (at, whole.as_str())
            }
        };
        let call = parse(text).ok_or_else(|| wrong("not understood"))?;
        reader.call(&call, begun, number).map_err(|error| wrong(&error))?;
    }
    let mut events = reader.events;
    // Whatever began on a line comes before what ended on it.
    events.sort_by_key(|(line, ended, id, _)| (*line, *ended, *id));
    Ok(events.into_iter().map(|(_, _, _, event)| event).collect())
}

struct Reader<'a> {
    root: &'a Path,
    /// Where the next plain write to a descriptor goes.
    files: HashMap<u32, u64>,
    next: usize,
    events: Vec<(usize, bool, usize, Event)>,
}

impl Reader<'_> {
    fn add(&mut self, (begun, ended): (usize, usize), action: Action) {
        let id = self.next;
        self.next += 1;
        self.events.push((begun, false, id, Event::Began(id, action)));
        self.events.push((ended, true, id, Event::Ended(id)));
    }

    /// The path, if it is one that a disk keeps.
    fn inside(&self, path: PathBuf) -> Option<PathBuf> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        // The socket is made in a directory of its own, `control-…`, which goes again.
        let is_socket = name == SOCKET || name.starts_with(&format!("{SOCKET}-"));
        let kept = !name.ends_with("-shm") && !is_socket;
        (path.starts_with(self.root) && kept).then_some(path)
    }

    fn named(&self, argument: &str) -> Option<PathBuf> {
        self.inside(PathBuf::from(String::from_utf8(string(argument)?).ok()?))
    }

    fn described(&self, argument: &str) -> Option<(u32, PathBuf)> {
        let (number, rest) = argument.split_once('<')?;
        let path = rest.split_once('>')?.0;
        let path = PathBuf::from(String::from_utf8(escaped(path)?).ok()?);
        Some((number.parse().ok()?, self.inside(path)?))
    }

    fn call(&mut self, call: &Call<'_>, begun: usize, ended: usize) -> Result<(), String> {
        let at = (begun, ended);
        let argument = |index: usize| call.args.get(index).copied().unwrap_or_default();
        let number = |index: usize| -> Result<u64, String> {
            argument(index).parse().map_err(|_| format!("argument {index} is no number"))
        };
        if call.result.starts_with('-') || call.result == "?" {
            return Ok(());
        }
        match call.name {
            "open" | "openat" | "creat" => {
                let path = argument(usize::from(call.name == "openat"));
                let (Some(path), Some((descriptor, _))) =
                    (self.named(path), self.described(call.result))
                else {
                    return Ok(());
                };
                self.files.insert(descriptor, 0);
                let flags = argument(if call.name == "openat" { 2 } else { 1 });
                if call.name == "creat" || flags.contains("O_CREAT") {
                    // Whether it was there, the disk's model knows.
                    self.add(at, Action::Create(path.clone()));
                }
                if call.name == "creat" || flags.contains("O_TRUNC") {
                    self.add(at, Action::Truncate { path, length: 0 });
                }
            }
            "mkdir" | "mkdirat" => {
                if let Some(path) = self.named(argument(usize::from(call.name == "mkdirat"))) {
                    self.add(at, Action::MakeDirectory(path));
                }
            }
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = if call.name == "rename" { (0, 1) } else { (1, 3) };
                match (self.named(argument(from)), self.named(argument(to))) {
                    (Some(from), Some(to)) => self.add(at, Action::Rename { from, to }),
                    (None, None) => {}
                    _ => return Err("a file came into the directory, or left it".into()),
                }
            }
            "unlink" | "unlinkat" => {
                if let Some(path) = self.named(argument(usize::from(call.name == "unlinkat"))) {
                    self.add(at, Action::Unlink(path));
                }
            }
            "write" | "pwrite64" => self.write(call, at)?,
            "ftruncate" => {
                if let Some((_, path)) = self.described(argument(0)) {
                    self.add(at, Action::Truncate { path, length: number(1)? });
                }
            }
            "fsync" | "fdatasync" => {
                if let Some((_, path)) = self.described(argument(0)) {
                    self.add(at, Action::Sync(path));
                }
            }
            "writev" | "sendto" | "sendmsg" if self.described(argument(0)).is_none() => {
                self.answer(argument(0), argument(1), at);
            }
            "mmap" => {
                let writes =
                    argument(2).contains("PROT_WRITE") && argument(3).contains("MAP_SHARED");
                if writes && self.described(argument(4)).is_some() {
                    return Err("a file is written through a mapping, which is not recorded".into());
                }
            }
            _ => {
                let touches = |argument: &&str| {
                    self.named(argument).is_some() || self.described(argument).is_some()
                };
                let everywhere = matches!(call.name, "sync" | "syncfs" | "io_uring_setup");
                if everywhere || call.args.iter().any(touches) {
                    return Err(format!("the model of the disk does not know {}", call.name));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, call: &Call<'_>, at: (usize, usize)) -> Result<(), String> {
        let Some((descriptor, path)) = call.args.first().and_then(|file| self.described(file))
        else {
            let (file, text) = (call.args.first(), call.args.get(1));
            self.answer(file.unwrap_or(&""), text.unwrap_or(&""), at);
            return Ok(());
        };
        let mut bytes =
            call.args.get(1).and_then(|text| string(text)).ok_or("what was written is missing")?;
        let written = call.result.parse().map_err(|_| "the result is no number")?;
        bytes.truncate(written);
        let offset = match call.args.get(3) {
            Some(offset) => offset.parse().map_err(|_| "the offset is no number")?,
            None => {
                let position = self.files.entry(descriptor).or_default();
                let offset = *position;
                *position += bytes.len() as u64;
                offset
            }
        };
        self.add(at, Action::Write { path, offset, bytes });
        Ok(())
    }

    /// What goes to a client, if it begins an answer.
    fn answer(&mut self, file: &str, text: &str, at: (usize, usize)) {
        let peer = file.split_once("TCP:[").and_then(|(_, ends)| ends.split_once("->"));
        let port = peer
            .and_then(|(_, peer)| peer.split_once(']'))
            .and_then(|(peer, _)| peer.rsplit_once(':'))
            .and_then(|(_, port)| port.parse().ok());
        let begin = text.find('"').and_then(|quote| string(&text[quote..]));
        if let (Some(port), Some(begin)) = (port, begin)
            && begin.starts_with(b"HTTP/1.1 ")
        {
            self.add(at, Action::Answer(port));
        }
    }
}

/// `name(argument, …) = result`, in which strings are written in hexadecimal throughout.
fn parse(text: &str) -> Option<Call<'_>> {
    let (name, rest) = text.split_once('(')?;
    let (args, result) = rest.rsplit_once(" = ")?;
    let args = args.trim_end().strip_suffix(')')?;
    // After the number of an error comes its name.
    let result = if result.starts_with('-') { "-1" } else { result.trim_end() };
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, byte) in args.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(args[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(args[start..].trim());
    Some(Call { name, args: parts, result })
}

/// A string in quotes.
fn string(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix('"')?;
    escaped(text.split_once('"')?.0)
}

/// `\x61\x62`.
fn escaped(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let bytes = text.as_bytes().chunks(4).map(|part| match part {
        [b'\\', b'x', high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    #[test]
    fn calls_are_read_in_the_order_in_which_they_began_and_ended() {
        let (file, other) = (hex("/d/a"), hex("/elsewhere"));
        let log = format!(
            "10 openat(AT_FDCWD, \"{file}\", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 5<{file}>\n\
             11 pwrite64(5<{file}>, \"{data}\", 3, 7 <unfinished ...>\n\
             10 fsync(5<{file}>) = 0\n\
             11 <... pwrite64 resumed>) = 2\n\
             10 write(5<{file}>, \"{data}\", 3) = 3\n\
             10 write(6<{other}>, \"{data}\", 3) = 3\n\
             10 unlink(\"{file}\") = -1 ENOENT (No such file or directory)\n\
             10 writev(9<TCP:[127.0.0.1:5000->127.0.0.1:40000]>, [{{iov_base=\"{head}\", iov_len=12}}], 1) = 12\n\
             10 +++ exited with 0 +++\n",
            data = hex("abc"),
            head = hex("HTTP/1.1 201"),
        );
        let path = PathBuf::from("/d/a");
        let write = |offset, bytes: &[u8]| Action::Write {
            path: path.clone(),
            offset,
            bytes: bytes.to_vec(),
        };
        let expected = [
            Event::Began(0, Action::Create(path.clone())),
            Event::Ended(0),
            Event::Began(2, write(7, b"ab")),
            Event::Began(1, Action::Sync(path.clone())),
            Event::Ended(1),
            Event::Ended(2),
            Event::Began(3, write(0, b"abc")),
            Event::Ended(3),
            Event::Began(4, Action::Answer(40000)),
            Event::Ended(4),
        ];
        assert_eq!(read(&log, Path::new("/d")).unwrap(), expected);
    }

    #[test]
    fn what_the_model_does_not_know_is_an_error() {
        let file = hex("/d/a");
        for call in [
            format!("fallocate(5<{file}>, 0, 0, 100) = 0"),
            format!("linkat(AT_FDCWD, \"{file}\", AT_FDCWD, \"{file}\", 0) = 0"),
            format!("mmap(NULL, 9, PROT_READ|PROT_WRITE, MAP_SHARED, 5<{file}>, 0) = 0x7f"),
            "sync() = 0".to_owned(),
        ] {
            assert!(read(&format!("1 {call}\n"), Path::new("/d")).is_err(), "{call}");
        }
        let shared = hex("/d/metadata.sqlite-shm");
        let call = format!("1 mmap(NULL, 9, PROT_WRITE, MAP_SHARED, 5<{shared}>, 0) = 0x7f\n");
        assert_eq!(read(&call, Path::new("/d")).unwrap(), []);
    }
}
