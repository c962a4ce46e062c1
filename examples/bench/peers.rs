//! Who is measured: the agent, the floors, and what else this machine has.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::fleet::Shape;
use crate::support::agent::Home;
use crate::support::spool;

/// A client of the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Reads and discards.
    ReadFloor,
    /// Reads, and keeps and posts as many bytes as the agent.
    FullFloor,
    /// The product.
    Agent,
    /// The same with a second output, whose server is never there.
    BesideDown,
    /// collectd with its modbus and `write_http` plugins.
    Collectd,
    /// pymodbus' asynchronous client, reading only.
    Pymodbus,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::ReadFloor, Self::FullFloor, Self::Agent, Self::BesideDown, Self::Collectd, Self::Pymodbus];

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadFloor => "read floor",
            Self::FullFloor => "full floor",
            Self::Agent => "agent",
            Self::BesideDown => "agent, an output down",
            Self::Collectd => "collectd",
            Self::Pymodbus => "pymodbus, reading only",
        }
    }

    /// What it lacks here, if anything.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Self::Collectd if collectd_plugin().is_none() => Some("Debian: collectd-core libmodbus5 libyajl2"),
            Self::Pymodbus if !runs(Command::new(python()).args(["-c", "import pymodbus"])) => {
                Some("PyPI: pymodbus==3.9.2")
            }
            _ => None,
        }
    }
}

/// The files and the command of one client; the files live as long as this.
#[derive(Debug)]
pub struct Peer {
    /// What to start.
    pub command: Command,
    home: Option<Home>,
    _directory: Option<TempDir>,
}

impl Peer {
    /// The client `who` for these devices.
    pub fn new(who: Who, shape: Shape, simulator: u16, server: u16, binary: &Path) -> Self {
        match who {
            Who::ReadFloor => Self::floor(shape, simulator, None),
            Who::FullFloor => Self::floor(shape, simulator, Some(server)),
            Who::Agent => Self::agent(shape, simulator, server, binary, ""),
            Who::BesideDown => Self::agent(shape, simulator, server, binary, DOWN),
            Who::Collectd => Self::collectd(shape, simulator, server),
            Who::Pymodbus => Self::pymodbus(shape, simulator),
        }
    }

    /// How many readings wait on the disk of an agent.
    pub fn waiting(&self) -> u64 {
        let home = self.home.as_ref().expect("an agent");
        // It may only just have begun.
        if home.agent_id_file().exists() { spool::readings(&home.spool(), "pattoo") } else { 0 }
    }

    fn floor(shape: Shape, simulator: u16, server: Option<u16>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
        command.args(["floor", &simulator.to_string(), &shape.devices.to_string(), &shape.registers.to_string()]);
        command.args(server.map(|port| port.to_string()));
        Self { command, home: None, _directory: None }
    }

    fn agent(shape: Shape, simulator: u16, server: u16, binary: &Path, outputs: &str) -> Self {
        let home = Home::of(binary, SocketAddr::from((Ipv4Addr::LOCALHOST, server)), "info");
        home.write_config(&format!("{outputs}{}", shape.config(simulator)));
        let mut command = Command::new(binary);
        command.args(["run", "--config_dir"]).arg(home.config_dir());
        Self { command, home: Some(home), _directory: None }
    }

    fn collectd(shape: Shape, simulator: u16, server: u16) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("collectd.conf");
        fs::write(&file, collectd_config(shape, simulator, server, directory.path())).expect("a file");
        let mut command = Command::new("collectd");
        command.args(["-f", "-C"]).arg(file);
        Self { command, home: None, _directory: Some(directory) }
    }

    fn pymodbus(shape: Shape, simulator: u16) -> Self {
        let mut command = Command::new(python());
        command.args(["-c", PYMODBUS, &simulator.to_string(), &shape.registers.to_string()]);
        command.args(shape.targets(simulator).iter().map(|target| target.split(':').next().unwrap_or_default()));
        Self { command, home: None, _directory: None }
    }
}

/// The server and another one: nobody listens at port 1.
const DOWN: &str = "outputs: [pattoo, {type: influxdb, url: 'http://127.0.0.1:1', database: plant}]\n";

/// Polls each device each second with one request.
const PYMODBUS: &str = r"
import asyncio, sys
from pymodbus.client import AsyncModbusTcpClient
port, count, hosts = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
async def poll(host, phase):
    client = AsyncModbusTcpClient(host, port=port, timeout=10)
    await client.connect()
    loop = asyncio.get_running_loop()
    due = loop.time() + phase
    while True:
        await asyncio.sleep(max(0, due - loop.time()))
        due += 1
        await client.read_input_registers(0, count=count, slave=1)
async def main():
    await asyncio.gather(*(poll(host, place % 20 * 0.05) for place, host in enumerate(hosts)))
asyncio.run(main())
";

fn collectd_config(shape: Shape, simulator: u16, server: u16, directory: &Path) -> String {
    let plugins = collectd_plugin().unwrap_or_default();
    let plugins = plugins.parent().unwrap_or(Path::new("/usr/lib/collectd")).display();
    let base = directory.display();
    let mut text = format!(
        "BaseDir \"{base}\"\nPIDFile \"{base}/pid\"\nPluginDir \"{plugins}\"\nTypesDB \"/usr/share/collectd/types.db\"\n\
         Interval 1\nReadThreads 5\nWriteThreads 5\nLoadPlugin modbus\nLoadPlugin write_http\n<Plugin write_http>\n  \
         <Node \"sink\">\n    URL \"http://127.0.0.1:{server}/\"\n    Format \"JSON\"\n    BufferSize 1048576\n  </Node>\n\
         </Plugin>\n<Plugin modbus>\n"
    );
    let mut add = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for register in 0..shape.registers {
        add(format!(
            "  <Data \"r{register}\">\n    RegisterBase {register}\n    RegisterType Uint16\n    RegisterCmd ReadInput\n    \
             Type gauge\n    Instance \"r{register}\"\n  </Data>"
        ));
    }
    for (place, target) in shape.targets(simulator).iter().enumerate() {
        let host = target.split(':').next().unwrap_or_default();
        add(format!(
            "  <Host \"d{place}\">\n    Address \"{host}\"\n    Port \"{simulator}\"\n    Interval 1\n    <Slave 1>\n      \
             Instance \"s\""
        ));
        for register in 0..shape.registers {
            add(format!("      Collect \"r{register}\""));
        }
        add("    </Slave>\n  </Host>".to_owned());
    }
    add("</Plugin>".to_owned());
    text
}

/// Where collectd's plugin is, if it is installed.
fn collectd_plugin() -> Option<PathBuf> {
    let places = ["/usr/lib/collectd/modbus.so", "/usr/lib/x86_64-linux-gnu/collectd/modbus.so"];
    let plugin = places.into_iter().map(PathBuf::from).find(|path| path.exists())?;
    runs(Command::new("collectd").arg("-h")).then_some(plugin)
}

/// The interpreter that has pymodbus: that of the tests, if they have made one.
fn python() -> PathBuf {
    let of_the_tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/python");
    if of_the_tests.exists() { of_the_tests } else { PathBuf::from("python3") }
}

fn runs(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
