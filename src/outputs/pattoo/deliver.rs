//! The poster as the pipeline sees it: an answer, and what follows from a failure.

use bytes::Bytes;

use super::post::{PostError, Poster};
use crate::outputs::{Answer, Deliver, Failure, LocalFuture};
use crate::text::Chain;

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
}

impl From<PostError> for Failure {
    fn from(error: PostError) -> Self {
        Self { verdict: error.verdict(), kind: error.kind(), text: Chain(&error).to_string() }
    }
}
