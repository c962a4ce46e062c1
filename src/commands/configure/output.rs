//! Where readings go: the kind of output, what it cannot do without, and whether it would take readings.

use super::ConfigureError;
use super::drafts::Drafts;
use super::interview::{Choice, Interview, Objection};
use super::network::Network;
use super::shared;
use crate::config::edit;

/// The kinds, the one that is offered first.
const KINDS: [Choice; 7] = [
    ("pattoo", "a pattoo server"),
    ("influxdb", "an InfluxDB, or what takes its lines, as VictoriaMetrics does"),
    ("mqtt", "an MQTT broker, for Home Assistant and others"),
    ("prometheus", "a Prometheus, a Mimir, or what takes remote write"),
    ("sqlite", "a database on this machine; needs no server"),
    ("file", "a file on this machine, a line for each reading"),
    ("otlp", "an OpenTelemetry collector, or what takes OTLP over HTTP"),
];

/// The versions of an InfluxDB.
const VERSIONS: [Choice; 3] = [
    ("v1", "version 1, and what takes its lines: a database"),
    ("v2", "version 2: an organization and a bucket"),
    ("v3", "version 3: a database"),
];

/// Who logs in.
const LOGINS: [Choice; 3] =
    [("nobody", "it takes readings from everybody"), ("user", "a user with a password"), ("token", "a token")];

/// What to do about a server that would not take readings.
const REFUSED: [Choice; 3] = [
    ("correct", "correct the answers"),
    ("keep", "keep them all the same: readings wait on disk until it takes them"),
    ("end", "end, and write nothing"),
];

/// The output as it is answered so far.
#[derive(Debug, Default, Clone)]
struct Output {
    kind: &'static str,
    keys: Vec<(&'static str, String)>,
}

impl Output {
    /// The entry of `outputs`.
    fn entry(&self) -> String {
        if self.keys.is_empty() {
            return self.kind.to_owned();
        }
        let keys: Vec<_> = self.keys.iter().map(|(key, value)| format!("{key}: {}", edit::quoted(value))).collect();
        format!("{{type: {}, {}}}", self.kind, keys.join(", "))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(of, _)| *of == key).map(|(_, value)| value.as_str())
    }

    /// With one key more.
    fn with(&self, key: &'static str, value: &str) -> Self {
        let mut output = self.clone();
        output.keys.push((key, value.to_owned()));
        output
    }
}

/// Asks where readings go, and puts it into `drafts`.
pub fn ask(
    interview: &mut Interview<'_>,
    network: &mut dyn Network,
    drafts: &mut Drafts,
) -> Result<(), ConfigureError> {
    let kind = KINDS[interview.choose("Where do the readings go?", &KINDS, 0)?].0;
    let before = drafts.clone();
    let mut last = Output::default();
    loop {
        // What was answered before the correction counts no more, but it is offered.
        if kind != "pattoo" {
            *drafts = before.clone();
        }
        let mut dialogue = Dialogue { interview, drafts, last: &last, output: Output { kind, keys: Vec::new() } };
        dialogue.keys()?;
        last = dialogue.output;
        match test(interview, network, drafts)? {
            0 => {}
            1 => return Ok(()),
            _ => return Err(ConfigureError::Ended),
        }
    }
}

/// Asks for what a pattoo server needs, where what is polled goes to one already.
pub fn ask_pattoo(
    interview: &mut Interview<'_>,
    network: &mut dyn Network,
    drafts: &mut Drafts,
) -> Result<(), ConfigureError> {
    loop {
        shared::fill(drafts, Some(interview))?;
        match test(interview, network, drafts)? {
            0 => {}
            1 => return Ok(()),
            _ => return Err(ConfigureError::Ended),
        }
    }
}

/// Asks the outputs whether they would take readings; what is to be done, by its place in `REFUSED`.
fn test(interview: &mut Interview<'_>, network: &mut dyn Network, drafts: &Drafts) -> Result<usize, ConfigureError> {
    let loaded = drafts.load()?.map_err(|error| ConfigureError::Wrong(error.shown()))?;
    let mut is_refused = false;
    for answer in network.outputs(&loaded.config) {
        is_refused |= answer.is_err();
        interview.tell(&format!("   {}\n", answer.unwrap_or_else(|why| why)));
    }
    if !is_refused {
        return Ok(1);
    }
    // A doubt about an answer may be the reason; else it is told at the end.
    for doubt in loaded.warnings.iter().filter(|doubt| doubt.path.starts_with("outputs")) {
        interview.tell(&format!("   {}\n", doubt.message));
    }
    interview.choose("What now?", &REFUSED, 0)
}

struct Dialogue<'d, 'p> {
    interview: &'d mut Interview<'p>,
    drafts: &'d mut Drafts,
    last: &'d Output,
    output: Output,
}

impl Dialogue<'_, '_> {
    /// Only what it cannot do without.
    fn keys(&mut self) -> Result<(), ConfigureError> {
        match self.output.kind {
            "pattoo" => return shared::fill(self.drafts, Some(self.interview)),
            "influxdb" => {
                self.key("URL, such as http://tsdb.example.net:8086", "url", "")?;
                let offered =
                    if self.last.get("bucket").is_some() { 1 } else { usize::from(self.last.get("api").is_some()) * 2 };
                let api = VERSIONS[self.interview.choose("Which of them is it?", &VERSIONS, offered)?].0;
                if api == "v2" {
                    // A bucket says that it is version 2.
                    self.key("Bucket", "bucket", "")?;
                    self.key("Organization", "org", "")?;
                } else {
                    if api == "v3" {
                        self.output = self.output.with("api", api);
                    }
                    self.key("Database", "database", "")?;
                }
                // Versions 2 and 3 ask for a token as a rule; version 1 is often open.
                self.login(&LOGINS, if api == "v1" { 0 } else { 2 })?;
            }
            "prometheus" => {
                self.key("URL, such as http://prometheus.example.net:9090/api/v1/write", "url", "")?;
                self.login(&LOGINS, 0)?;
            }
            "otlp" => {
                self.key("URL, such as http://collector.example.net:4318", "url", "")?;
                self.login(&LOGINS, 0)?;
            }
            "mqtt" => {
                self.key("URL, such as mqtt://broker.example.net", "url", "")?;
                // MQTT has a name and a password, and no token.
                self.login(&LOGINS[..2], 0)?;
            }
            "file" => self.key("Whole path of the file", "path", "/var/lib/pattoo/readings.jsonl")?,
            _ => {}
        }
        self.drafts.output = Some(self.output.entry());
        if shared::fill_directories(self.drafts)? {
            self.interview.tell("   Only root can use the usual directories: pattoo.yaml will name some of yours.\n");
        }
        Ok(())
    }

    fn login(&mut self, logins: &[Choice], offered: usize) -> Result<(), ConfigureError> {
        let kind = self.output.kind;
        match logins[self.interview.choose("Who logs in there?", logins, offered)?].0 {
            "user" => {
                self.key("Name of the user", "username", "")?;
                self.secret("password_file", &format!("{kind}.password"), "password")
            }
            "token" => self.secret("token_file", &format!("{kind}.token"), "token"),
            _ => Ok(()),
        }
    }

    /// Asks for the file of a secret, and for the secret where there is no such file.
    fn secret(&mut self, key: &'static str, offered: &str, what: &str) -> Result<(), ConfigureError> {
        let offered = self.last.get(key).unwrap_or(offered).to_owned();
        let directory = self.drafts.directory.clone();
        let question = format!("File with the {what}; if it is not there, it is made beside the configuration");
        // A bare name only: a file elsewhere is somebody's to make, with the rights that are wanted there.
        let is_new = |file: &str| !file.contains('/') && !directory.join(file).exists();
        let drafts = self.drafts.clone();
        let output = &self.output;
        let file = self.interview.ask(&question, &offered, |answer| {
            let mut trial = drafts.clone();
            if is_new(answer) {
                // Any secret: only the name of its file is judged yet.
                trial.secrets.push((directory.join(answer), "x".to_owned()));
            }
            trial.output = Some(output.with(key, answer).entry());
            about(&trial, key)
        })?;
        if is_new(&file) {
            let path = directory.join(&file);
            let of = |secret: &str| {
                let mut trial = drafts.clone();
                trial.secrets.push((path.clone(), secret.to_owned()));
                trial.output = Some(output.with(key, &file).entry());
                trial
            };
            let secret = self
                .interview
                .ask_hidden(&format!("The {what}, which is not shown"), |secret| about(&of(secret), key))?;
            self.drafts.secrets.push((path, secret));
        }
        self.output = self.output.with(key, &file);
        Ok(())
    }

    fn key(&mut self, what: &str, key: &'static str, offered: &str) -> Result<(), ConfigureError> {
        let offered = self.last.get(key).unwrap_or(offered);
        let (output, drafts) = (&self.output, &*self.drafts);
        let answer = self.interview.ask(what, offered, |answer| {
            let mut trial = drafts.clone();
            trial.output = Some(output.with(key, answer).entry());
            about(&trial, key)
        })?;
        self.output = self.output.with(key, &answer);
        Ok(())
    }
}

/// What is said against this key of the output; a doubt about a directory, or about a secret on its way, is no reason to ask again.
fn about(trial: &Drafts, key: &str) -> Vec<Objection> {
    let path = format!("outputs[0].{key}");
    let objections = trial.objections(|it, is_fault| is_fault && it.path == path).unwrap_or_default();
    objections.iter().map(Objection::from).collect()
}
