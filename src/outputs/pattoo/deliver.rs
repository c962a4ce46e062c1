//! The poster as the pipeline sees it: an answer, and what follows from a failure.

use bytes::Bytes;

use super::post::{PostError, Poster};
use crate::outputs::{Answer, Deliver, Failure, LocalFuture, Verdict};
use crate::text::Chain;
use crate::time::clock;

/// Clocks that differ by more seconds are worth a word.
const APART: u64 = 60;

impl Deliver for Poster {
    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        Box::pin(async move {
            let result = Self::post(self, body).await.map_err(Failure::from);
            Answer { result, server_time: self.server_date() }
        })
    }

    fn ask_time(&mut self) -> LocalFuture<'_, Answer> {
        Box::pin(async move {
            match Self::ask_time(self).await {
                Ok(server_time) => Answer { result: Ok(()), server_time },
                Err(error) => Answer { result: Err(error.into()), server_time: None },
            }
        })
    }

    fn try_out(&mut self) -> LocalFuture<'_, Result<String, Failure>> {
        Box::pin(async move {
            let Some(time) = Self::ask_time(self).await? else {
                let text = "something answers that is no pattoo agent API";
                return Err(Failure::new(Verdict::RefusedUs, "not_ok", text));
            };
            let apart = time.as_millis().abs_diff(clock::wall().as_millis()) / 1_000;
            let clocks =
                if apart > APART { format!("; its clock and this one are {apart}s apart") } else { String::new() };
            Ok(format!("answers{clocks}"))
        })
    }
}

impl From<PostError> for Failure {
    fn from(error: PostError) -> Self {
        Self::new(error.verdict(), error.kind(), Chain(&error).to_string())
    }
}
