//! The context of the user's trace that calls to a server carry, as W3C Trace Context has it.
//!
//! Invariant: what is kept is of the form of that standard. It becomes the value of a header, and comes from
//! JavaScript.
//!
//! It keeps one context, the last that was given, makes no span and samples nothing.

use std::sync::{Arc, Mutex, PoisonError};

/// What the standard asks to be passed on, at least.
const MAX_STATE_BYTES: usize = 512;

/// The context of one client. A clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct TraceContext(Arc<Mutex<Option<Carried>>>);

#[derive(Debug, Clone)]
struct Carried {
    parent: String,
    state: String,
}

impl TraceContext {
    /// Calls that begin from now on carry this. What is no `traceparent` takes away the one before.
    pub fn set(&self, parent: &str, state: &str) {
        let carried = is_parent(parent).then(|| Carried {
            parent: parent.to_string(),
            // Passed on as it came or not at all: half a list would be another one.
            state: match is_state(state) {
                true => state.to_string(),
                false => String::new(),
            },
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = carried;
    }

    /// The headers of a call that begins now. None of them has a value that a header cannot have.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let carried = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Carried { parent, state }) = carried else {
            return Vec::new();
        };
        let mut headers = vec![("traceparent", parent)];
        if !state.is_empty() {
            headers.push(("tracestate", state));
        }
        headers
    }
}

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`
fn is_parent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]) && parts.iter().all(hex)
}

fn is_state(text: &str) -> bool {
    text.len() <= MAX_STATE_BYTES && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nothing that is no context becomes a header.
    #[test]
    fn a_context_is_of_the_standards_form_or_none() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::default();
        assert!(context.headers().is_empty());
        context.set(parent, "vendor=1");
        let both = vec![
            ("traceparent", parent.to_string()),
            ("tracestate", "vendor=1".into()),
        ];
        assert_eq!(context.clone().headers(), both);
        context.set(parent, "a\nb");
        assert_eq!(context.headers(), both[..1]);
        context.set(parent, &"x".repeat(513));
        assert_eq!(context.headers(), both[..1]);
        for wrong in [
            "",
            "00",
            &parent[1..],
            &parent.to_uppercase(),
            &format!("{parent}-0"),
            "00-a\nb-1-1",
        ] {
            context.set(parent, "");
            context.set(wrong, "vendor=1");
            assert!(context.headers().is_empty(), "{wrong}");
        }
    }
}
