//! A process inside the cgroup that uses sockets as it is told, line by line.
//!
//! It is this test binary again, run for the one test [`agent`] with the cgroup in an environment
//! variable. Its answers begin with `@`, since the test harness writes to the same pipe.

use std::cell::RefCell;
use std::io::{self, BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use pintle_node::NetNs;

/// The parent's end.
pub(crate) struct Agent {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Agent {
    /// Start one in `cgroup`.
    pub(crate) fn start(cgroup: &Path) -> Self {
        Self::start_by(Command::new(env::current_exe().unwrap()), cgroup)
    }

    /// Start one in `cgroup`, in a network namespace of its own whose loopback device is up.
    pub(crate) fn start_in_new_namespace(cgroup: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
        command.arg(env::current_exe().unwrap());
        Self::start_by(command, cgroup)
    }

    /// Start one in `cgroup`, in a network namespace that is there.
    pub(crate) fn start_in(namespace: &NetNs, cgroup: &Path) -> Self {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.path().display()));
        command.arg(env::current_exe().unwrap());
        Self::start_by(command, cgroup)
    }

    fn start_by(mut command: Command, cgroup: &Path) -> Self {
        let mut child = command
            .args(["--exact", "agent::agent", "--ignored", "--nocapture"])
            .env(CGROUP, cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, output }
    }

    /// Give an order and wait for its answer.
    pub(crate) fn ask(&mut self, order: impl AsRef<str>) -> String {
        writeln!(self.input, "{}", order.as_ref()).unwrap();
        self.answer()
    }

    /// Give an order whose answer is read later, by [`Agent::answer`].
    pub(crate) fn begin(&mut self, order: impl AsRef<str>) {
        writeln!(self.input, "{}", order.as_ref()).unwrap();
    }

    pub(crate) fn answer(&mut self) -> String {
        loop {
            let line = self.output.next().expect("the agent lives").unwrap();
            if let Some((_, answer)) = line.split_once('@') {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: what [`Agent::start`] runs.
#[test]
#[ignore = "run by the other tests, inside a cgroup"]
fn agent() {
    let Some(cgroup) = env::var_os(CGROUP) else { return };
    fs::write(Path::new(&cgroup).join("cgroup.procs"), "0").unwrap();
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = obey(&words).unwrap_or_else(|error| match error.raw_os_error() {
            Some(errno) => format!("errno {errno}"),
            None => format!("error {error}"),
        });
        println!("@{answer}");
    }
}

fn obey(words: &[&str]) -> io::Result<String> {
    match words {
        ["tcp", to] => tcp(addr(to)),
        ["udp-connected", to] => udp_connected(addr(to)),
        ["udp-reconnected", first, second] => udp_reconnected(addr(first), addr(second)),
        ["udp-target", to] => udp_target(addr(to)),
        ["bind", to] => TcpListener::bind(addr(to)).map(|_| "bound".to_owned()),
        ["bind-udp", to] => UdpSocket::bind(addr(to)).map(|_| "bound".to_owned()),
        ["udp-hold", to] => udp_hold(addr(to)),
        ["udp-held"] => udp_held(true),
        ["udp-heard"] => udp_held(false),
        ["udp", to @ ..] => udp(&to.iter().map(|to| addr(to)).collect::<Vec<_>>()),
        ["connect-all", millis, all @ ..] => {
            let all: Vec<_> = all.iter().map(|to| addr(to)).collect();
            connect_all(&all, number(millis)).map(|made| made.to_string())
        }
        ["storm", to, threads, millis] => Ok(storm(addr(to), number(threads), number(millis))),
        _ => panic!("no such order: {words:?}"),
    }
}

/// Connect, and say who answered and who the peer is said to be.
fn tcp(to: SocketAddr) -> io::Result<String> {
    let (stream, name) = connect(to)?;
    Ok(format!("{name} peer {}", stream.peer_addr()?))
}

fn connect(to: SocketAddr) -> io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut name = String::new();
    stream.read_to_string(&mut name)?;
    Ok((stream, name))
}

thread_local! {
    /// A connected socket that is kept.
    static HELD: RefCell<Option<UdpSocket>> = const { RefCell::new(None) };
}

/// Connect a socket and keep it: who answered.
fn udp_hold(to: SocketAddr) -> io::Result<String> {
    let socket = udp_socket(to)?;
    socket.connect(to)?;
    HELD.set(Some(socket));
    udp_held(true)
}

/// Use the socket that is kept: who answered, to a datagram that is sent first or without one.
fn udp_held(sends: bool) -> io::Result<String> {
    HELD.with_borrow(|socket| {
        let socket = socket.as_ref().expect("one is kept");
        if sends {
            socket.send(b"hello")?;
        }
        Ok(receive(socket)?.0)
    })
}

/// One connected socket: who answered, from where, and who the peer is said to be.
fn udp_connected(to: SocketAddr) -> io::Result<String> {
    let socket = udp_socket(to)?;
    socket.connect(to)?;
    socket.send(b"hello")?;
    let (name, from) = receive(&socket)?;
    Ok(format!("{name} from {from} peer {}", socket.peer_addr()?))
}

/// Where a connected socket's datagrams really go: the port of the backend, in hexadecimal.
fn udp_target(to: SocketAddr) -> io::Result<String> {
    let socket = udp_socket(to)?;
    socket.connect(to)?;
    let own = format!(":{:04X} ", socket.local_addr()?.port());
    let table = fs::read_to_string("/proc/self/net/udp")?;
    let line = table.lines().find(|line| line.contains(&own)).expect("its own line");
    let remote = line.split_whitespace().nth(2).expect("a remote address");
    Ok(remote.to_owned())
}

/// One socket connected twice: who the peer is said to be each time.
fn udp_reconnected(first: SocketAddr, second: SocketAddr) -> io::Result<String> {
    let socket = udp_socket(first)?;
    socket.connect(first)?;
    let before = socket.peer_addr()?;
    socket.connect(second)?;
    Ok(format!("{before} {}", socket.peer_addr()?))
}

/// One socket that names a destination with each datagram: who answered, from where. All are sent
/// before the first answer is read.
fn udp(to: &[SocketAddr]) -> io::Result<String> {
    let socket = udp_socket(to[0])?;
    for to in to {
        socket.send_to(b"hello", to)?;
    }
    let mut answers = Vec::new();
    for _ in to {
        let (name, from) = receive(&socket)?;
        answers.push(format!("{name} from {from}"));
    }
    Ok(answers.join(", "))
}

fn udp_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = if to.is_ipv4() {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?
    } else {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?
    };
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket) -> io::Result<(String, String)> {
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), from.to_string()))
}

/// Connect over and over from several threads: how often it went well, and the first failure.
/// Connect datagram sockets to one address after the other: how many.
fn connect_all(all: &[SocketAddr], millis: u64) -> io::Result<u64> {
    let end = Instant::now() + Duration::from_millis(millis);
    let mut made = 0;
    while Instant::now() < end {
        for to in all {
            UdpSocket::bind("127.0.0.1:0")?.connect(to)?;
            made += 1;
        }
    }
    Ok(made)
}

fn storm(to: SocketAddr, threads: u64, millis: u64) -> String {
    let end = Instant::now() + Duration::from_millis(millis);
    let run = move || {
        let (mut fine, mut failed, mut first) = (0_u64, 0_u64, None);
        while Instant::now() < end {
            match connect(to) {
                Ok((_, name)) if !name.is_empty() => fine += 1,
                other => {
                    failed += 1;
                    first.get_or_insert(format!("{other:?}"));
                }
            }
        }
        (fine, failed, first)
    };
    let threads: Vec<_> = (0..threads).map(|_| thread::spawn(run)).collect();
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let fine: u64 = results.iter().map(|(fine, ..)| fine).sum();
    let failed: u64 = results.iter().map(|(_, failed, _)| failed).sum();
    let first = results.into_iter().find_map(|(.., first)| first).unwrap_or_default();
    format!("fine {fine} failed {failed} {first}")
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn number<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

const CGROUP: &str = "PINTLE_TEST_AGENT_CGROUP";
const PATIENCE: Duration = Duration::from_secs(2);
