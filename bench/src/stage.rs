//! The processes that take part, each ended with the value that stands for it.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;

/// How often, and how patiently, a starting process is asked whether it is there: 20 s in all.
const ATTEMPTS: u32 = 4_000;
const PAUSE: Duration = Duration::from_millis(5);

/// Is a running process with an address.
pub(crate) struct Actor {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Actor {
    /// Starts this program in another part, on a free port.
    pub(crate) fn part(part: &str, arguments: &[&str]) -> Result<Self, Failure> {
        Self::part_at(part, free_address()?, arguments)
    }

    /// Starts this program in another part, at an address.
    pub(crate) fn part_at(part: &str, address: SocketAddr, arguments: &[&str]) -> Result<Self, Failure> {
        Self::part_of(&std::env::current_exe()?, part, address, arguments)
    }

    /// Starts another build of this program in a part, at an address.
    pub(crate) fn part_of(
        program: &Path,
        part: &str,
        address: SocketAddr,
        arguments: &[&str],
    ) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args([part, "--listen", &address.to_string()]).args(arguments);
        Self::start(&mut command, address)
    }

    /// Starts nginx as a plain proxy to `upstream`, with one worker and kept connections.
    pub(crate) fn nginx(program: &Path, folder: &Path, upstream: SocketAddr) -> Result<Self, Failure> {
        let address = free_address()?;
        let file = folder.join("nginx.conf");
        let place = folder.display();
        std::fs::write(
            &file,
            format!(
                "daemon off; master_process off; pid {place}/nginx.pid; error_log {place}/nginx.log;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{\n access_log off;\n keepalive_requests 1000000000;\n\
                 client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n\
                 fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
                 upstream echo {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}\n\
                 server {{ listen {address}; location / {{ proxy_pass http://echo;\n\
                 proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n}}\n"
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-c").arg(&file).arg("-e").arg(folder.join("nginx.log"));
        Self::start(&mut command, address)
    }

    /// Starts a process and waits until it accepts connections on `address`.
    pub(crate) fn start(command: &mut Command, address: SocketAddr) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        if let Some(output) = child.stdout.take() {
            // Read to the end, so that nobody waits for a full pipe.
            thread::spawn(move || BufReader::new(output).lines().for_each(drop));
        }
        let mut actor = Self { child, address };
        for _ in 0..ATTEMPTS {
            if TcpStream::connect(address).is_ok() {
                return Ok(actor);
            }
            if let Some(status) = actor.child.try_wait()? {
                return Err(format!("{program} ended with {status}").into());
            }
            thread::sleep(PAUSE);
        }
        Err(format!("{program} does not listen on {address}").into())
    }

    /// Waits until a hub says that it is ready. It takes connections before, and answers them then.
    pub(crate) fn wait_until_ready(&self) -> Result<(), Failure> {
        let question = format!("GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        for _ in 0..ATTEMPTS {
            let (mut stream, mut answer) = (TcpStream::connect(self.address)?, String::new());
            stream.write_all(question.as_bytes())?;
            stream.read_to_string(&mut answer)?;
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(format!("the hub at {} does not get ready", self.address).into())
    }

    /// Ends the process in peace, and fails if it doesn't end well.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        let id =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process has this id")?;
        kill_process(id, Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("process {id:?} ended with {status}").into()) }
    }

    /// Names the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("bench: ending process {}: {error}", self.child.id());
        }
    }
}

/// Serves until it is told to end, which it then does in peace.
pub(crate) async fn until_told(serving: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut told = signal(SignalKind::terminate())?;
    tokio::select! {
        served = serving => served,
        _ = told.recv() => Ok(()),
    }
}

/// Finds an address that nobody listens on.
pub(crate) fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Runs a program to its end with a text on standard input, and returns what it printed.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, Failure> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let line: Vec<_> = command.get_args().collect();
    Err(format!("{line:?} failed: {printed}{}", String::from_utf8_lossy(&output.stderr)).into())
}
