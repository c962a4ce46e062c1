//! Files of readings.
use std::path::PathBuf;
use std::sync::Arc;
use bytes::Bytes;
use super::{Answer, Deliver, Encode, Encoded, LocalFuture};
use crate::reading::points::PointTable;
use crate::reading::{Reading, Timestamp};
/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format { /// a
 Jsonl, /// b
 Csv }
/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings { /// a
 pub path: PathBuf, /// b
 pub format: Format, /// c
 pub max_bytes: u64, /// d
 pub keep: u32 }
/// x
pub struct FileEncode;
/// y
pub struct FileDeliver;
/// z
pub struct FileOutput;
impl FileOutput { /// n
 pub fn new(_s: FileSettings) -> (FileEncode, FileDeliver) { (FileEncode, FileDeliver) } }
impl Encode for FileEncode {
    fn encode(&mut self, _t: &Arc<PointTable>, r: &[Reading], _room: usize, _p: Timestamp) -> Encoded { Encoded { body: None, taken: r.len(), not_sendable: r.len(), stamp: None } }
    fn extension(&self) -> &'static str { "jsonl" }
}
impl Deliver for FileDeliver {
    fn post(&mut self, _b: Bytes) -> LocalFuture<'_, Answer> { Box::pin(async { Answer { result: Ok(()), server_time: None } }) }
    fn ask_time(&mut self) -> LocalFuture<'_, Answer> { Box::pin(async { Answer { result: Ok(()), server_time: None } }) }
}
