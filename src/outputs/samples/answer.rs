//! What an answer of a server that keeps series in order of time means, whatever the protocol: in which words it refuses samples.
//! Pure.

use crate::outputs::http::{Reply, printable};
use crate::outputs::{Failure, Verdict};

/// In which words samples are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The server has something newer of the series.
    OutOfOrder,
    /// It has another value of the same time.
    Duplicate,
    /// It takes nothing so old.
    TooOld,
}

/// Why a post was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// For samples in it.
    Samples(Refusal, String),
    /// For anything else.
    Otherwise(Failure),
}

/// What follows from an answer of `server`; `said` is what it says to people. `endpoint` says what to look after when there is
/// nobody to take anything.
///
/// # Errors
/// When it does not mean that the server has all of it.
pub fn judge(server: &str, reply: &Reply, said: &[u8], endpoint: &str) -> Result<(), NotTaken> {
    if reply.is_whole_success() && !reply.is_page() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(said).to_lowercase();
    let later = |late| Verdict::Later { after: reply.retry_after(), late };
    // Prometheus 2.42 answers 500 to what is too old for its out_of_order_time_window.
    if matches!(reply.status, 400 | 409 | 422 | 500)
        && let Some(refused) = refused(server, reply.status, said)
    {
        return Err(refused);
    }
    let (verdict, kind, advice) = match reply.status {
        200..=299 if reply.is_page() => {
            (Verdict::RefusedUs, "not_ok", "but with a page; is it a server, or something in between? check url")
        }
        200..=299 => (later(false), "transport", "the answer is cut"),
        // A VictoriaMetrics has no 404.
        400 if text.contains("unsupported path") => (Verdict::RefusedUs, "not_found", endpoint),
        400 | 409 | 422 if is_ahead(&text) => (later(false), "future", "its clock is behind ours"),
        400 | 409 | 422 => (Verdict::RefusedPart, "refused", "which part of the post it refuses is searched for"),
        401 | 403 => (Verdict::RefusedUs, "login", "check username and password_file, or token_file"),
        404 | 405 | 410 | 415 | 300..=399 | 407 => (Verdict::RefusedUs, "not_found", endpoint),
        408 => (later(true), "timeout", "it waited in vain"),
        413 => (Verdict::TooLarge, "too_large", "a smaller post follows"),
        402..=428 | 430..=499 => (Verdict::RefusedBody, "refused", "its log knows why"),
        _ => (later(false), "server", "it asks to be left alone for a while"),
    };
    let text = format!("{server} answered {} ({advice}): \"{}\"", reply.status, printable(said));
    Err(NotTaken::Otherwise(Failure::new(verdict, kind, text)))
}

/// Why samples are not taken, if what `server` says is that.
#[must_use]
pub fn refused(server: &str, status: u16, said: &[u8]) -> Option<NotTaken> {
    let refusal = refusal(&String::from_utf8_lossy(said).to_lowercase())?;
    let means = match refusal {
        Refusal::OutOfOrder => "somebody else writes the same series, and what it has of it is newer",
        Refusal::Duplicate => "somebody else writes the same series, and has written another value at the same time",
        Refusal::TooOld => {
            "it takes nothing so old; out_of_order_time_window of its configuration says how old that may be"
        }
    };
    Some(NotTaken::Samples(refusal, format!("{server} answered {status} ({means}): \"{}\"", printable(said))))
}

/// In which words samples are refused, if they are. Prometheus, Thanos and Cortex have the words of the first three, Mimir those
/// with `err-mimir`.
fn refusal(text: &str) -> Option<Refusal> {
    const WORDS: [(&str, Refusal); 8] = [
        ("out of bounds", Refusal::TooOld),
        ("too old sample", Refusal::TooOld),
        ("err-mimir-sample-timestamp-too-old", Refusal::TooOld),
        ("duplicate sample for timestamp", Refusal::Duplicate),
        ("err-mimir-sample-duplicate-timestamp", Refusal::Duplicate),
        ("out of order sample", Refusal::OutOfOrder),
        ("sample timestamp out of order", Refusal::OutOfOrder),
        ("err-mimir-sample-out-of-order", Refusal::OutOfOrder),
    ];
    let word = WORDS.iter().find(|(word, _)| text.contains(word));
    word.filter(|_| !is_ahead(text)).map(|(_, refusal)| *refusal)
}

/// Whether a sample is refused for a time that is still to come.
fn is_ahead(text: &str) -> bool {
    text.contains("too far in the future") || text.contains("err-mimir-too-far-in-future")
}
