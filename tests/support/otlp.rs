//! A receiver of OTLP in front of a real Prometheus that has none: as one that has it, it translates what it is sent and answers what
//! its storage answers. It reads by the messages that OpenTelemetry publishes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use prost::Message as _;

use super::prometheus::Labels;

/// Series by their labels, each with its samples.
pub type Written = Vec<(Labels, Vec<(u64, f64)>)>;

/// What the storage answers to series; `None` when there is none.
pub type Store = Box<dyn FnMut(&Written) -> Option<(u16, Vec<u8>)> + Send>;

/// A running receiver; its threads end with the test program.
pub struct Receiver {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// In front of this storage.
    pub fn start(store: Store) -> Self {
        let listener = super::listen_somewhere();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (store, seen) = (Arc::new(Mutex::new(store)), Arc::clone(&heads));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (store, seen) = (Arc::clone(&store), Arc::clone(&seen));
                std::thread::spawn(move || while take(&stream, &store, &seen).is_some() {});
            }
        });
        Self { address, heads }
    }

    /// What the output is told.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Takes one request; `None` when the connection is over, or is to be.
fn take(mut stream: &TcpStream, store: &Mutex<Store>, heads: &Mutex<Vec<String>>) -> Option<()> {
    let (mut reader, mut head) = (BufReader::new(stream), String::new());
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|&read| read > 0)?;
    }
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1)?.split('\r').next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if head.contains("content-encoding: gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
        body = plain;
    }
    heads.lock().unwrap().push(head);
    let written = series_of(&body);
    let (status, said) = if written.is_empty() { (200, Vec::new()) } else { (store.lock().unwrap())(&written)? };
    let head = format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n\r\n", said.len());
    stream.write_all(&[head.as_bytes(), &said].concat()).ok()
}

/// The series of a request, named as a Prometheus does by default: `_` for each dot.
pub fn series_of(body: &[u8]) -> Written {
    let request = ExportMetricsServiceRequest::decode(body).expect("a request");
    let mut series: BTreeMap<Labels, Vec<(u64, f64)>> = BTreeMap::new();
    for metric in request.resource_metrics.iter().flat_map(|of| &of.scope_metrics).flat_map(|of| &of.metrics) {
        let (suffix, points) = match metric.data.as_ref().expect("points") {
            metric::Data::Gauge(gauge) => ("", &gauge.data_points),
            metric::Data::Sum(sum) => ("_total", &sum.data_points),
            other => panic!("{other:?}"),
        };
        for point in points {
            let text = |value: any_value::Value| match value {
                any_value::Value::StringValue(text) => text,
                other => panic!("{other:?}"),
            };
            let mut labels: Labels = vec![("__name__".to_owned(), metric.name.replace('.', "_") + suffix)];
            for attribute in &point.attributes {
                labels.push((attribute.key.clone(), text(attribute.value.clone().unwrap().value.unwrap())));
            }
            labels.sort();
            let Some(number_data_point::Value::AsDouble(value)) = point.value else { panic!("{:?}", point.value) };
            series.entry(labels).or_default().push((point.time_unix_nano / 1_000_000, value));
        }
    }
    series.into_iter().collect()
}

/// The answer of a receiver that has refused so many data points.
pub fn partly(rejected_data_points: i64, error_message: &str) -> Vec<u8> {
    let partial = ExportMetricsPartialSuccess { rejected_data_points, error_message: error_message.to_owned() };
    ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
}
