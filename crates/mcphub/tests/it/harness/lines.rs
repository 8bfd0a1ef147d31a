//! A program that is spoken to in JSON lines: the bridge for clients that only speak stdio, and such a client.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::peer::program;
use super::witness::Witness;
use super::{Serving, eventually, tool};

/// How long a line may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Is a running program; ended with the test.
pub(crate) struct Lines {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Value>,
    /// Looks on where the lines are the protocol's.
    witness: Mutex<Option<Witness>>,
}

impl Lines {
    /// Starts a program that answers lines.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (sender, output) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no message: {line}"));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { input: child.stdin.take(), output, child, witness: Mutex::default() }
    }

    /// Starts the bridge to a hub.
    pub(crate) fn bridge(hub: &Serving, name: Option<&str>, key: &str) -> Self {
        Self::bridge_to(&hub.url(""), name, key)
    }

    /// Starts the bridge to whatever is at an address.
    pub(crate) fn bridge_to(url: &str, name: Option<&str>, key: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcphub"));
        command.env_clear().env("MCPHUB_KEY", key);
        command.args(["connect", "--stdio", "--url", url]);
        command.args(name.iter().flat_map(|name| ["--name", name]));
        let lines = Self::start(&mut command);
        *lines.witness.lock().unwrap() = Some(Witness::of_talk());
        lines
    }

    /// Starts a client made of an SDK that does what the lines say, through the bridge.
    pub(crate) fn client((python, era): (&str, &str), hub: &Serving, key: &str) -> Self {
        let mut command = Command::new(tool(python));
        command.arg(program("client.py")).args(through(hub, None, key)).args(["--era", era, "lines"]);
        Self::start(&mut command)
    }

    /// Writes a line, whatever it holds.
    pub(crate) fn write(&mut self, line: &str) {
        if let Some(witness) = &mut *self.witness.lock().unwrap() {
            witness.sends(&[], line);
        }
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads the next line.
    pub(crate) fn read(&self) -> Value {
        self.read_within(PATIENCE).expect("a line comes")
    }

    /// Reads the next line, if it comes soon.
    pub(crate) fn read_within(&self, span: Duration) -> Option<Value> {
        let line = self.output.recv_timeout(span).ok()?;
        if let Some(witness) = &mut *self.witness.lock().unwrap() {
            witness.message(&line.to_string());
        }
        Some(line)
    }

    /// Writes a message, and reads lines up to one that `is_it`.
    pub(crate) fn until(&mut self, message: &Value, is_it: impl Fn(&Value) -> bool) -> Value {
        self.write(&message.to_string());
        loop {
            let line = self.read();
            if is_it(&line) {
                return line;
            }
        }
    }

    /// Writes a request, and reads up to its answer.
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.until(request, |line| line["id"] == request["id"] && line.get("method").is_none())
    }

    /// Opens a legacy session.
    pub(crate) fn initialize(&mut self, version: &str) -> Value {
        let params = json!({
            "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        });
        let opened =
            self.ask(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }));
        self.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        opened
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Ends its input.
    pub(crate) fn close(&mut self) {
        self.input = None;
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the program ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.child.kill().expect("the program can be ended");
            self.child.wait().expect("the program has ended");
        }
    }
}

/// Lists the options by which an SDK's client starts the bridge as its server.
pub(crate) fn through(hub: &Serving, name: Option<&str>, key: &str) -> Vec<String> {
    let name = name.map(|name| format!(" --name {name}")).unwrap_or_default();
    let line = format!("{} connect --stdio --url {}{name}", env!("CARGO_BIN_EXE_mcphub"), hub.url(""));
    ["--stdio".to_owned(), line, "--env".to_owned(), format!("MCPHUB_KEY={key}")].into()
}
