//! Tokens, and what workspaces answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::config::{Config, Secret, TlsOptions};
use crate::destination::zerobus::catalog;
use crate::destination::zerobus::credentials::Credentials;
use crate::destination::zerobus::http::Http;
use crate::destination::zerobus::target::ZerobusTarget;
use crate::destination::zerobus::token::{TokenScope, Tokens};
use crate::error::Code;

/// A workspace that answers as it is told, the last answer for ever.
struct Workspace {
    url: String,
    answers: Arc<Mutex<Vec<(u16, String)>>>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Workspace {
    async fn start(answers: &[(u16, &str)]) -> Workspace {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let workspace = Workspace {
            url: format!("http://{}", listener.local_addr().unwrap()),
            answers: Arc::default(),
            heard: Arc::default(),
        };
        workspace.will_answer(answers);
        let (answers, heard) = (workspace.answers.clone(), workspace.heard.clone());
        tokio::spawn(async move {
            while let Ok((mut line, _)) = listener.accept().await {
                let mut text = Vec::new();
                while !is_whole(&text) && line.read_buf(&mut text).await.unwrap() > 0 {}
                heard.lock().unwrap().push(String::from_utf8(text).unwrap());
                let (status, body) = {
                    let mut answers = answers.lock().unwrap();
                    if answers.len() > 1 {
                        answers.remove(0)
                    } else {
                        answers[0].clone()
                    }
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nretry-after: 7\r\nconnection: close\r\n\r\n"
                );
                line.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        workspace
    }

    fn will_answer(&self, answers: &[(u16, &str)]) {
        let answers = answers.iter().map(|(status, body)| (*status, body.to_string()));
        *self.answers.lock().unwrap() = answers.collect();
    }

    fn questions(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    fn http(&self) -> Http {
        Http::new(&self.url, &TlsOptions::default(), Duration::from_secs(5)).unwrap()
    }

    fn tokens(&self) -> Tokens {
        let target =
            ZerobusTarget::parse("zerobus://77.zerobus.eu.example.com/c.s.t", &Config::default()).unwrap();
        Tokens::new(self.http(), "me".into(), Secret::new("hunter22"), target)
    }

    fn credentials(&self) -> Credentials {
        Credentials::Tokens(Box::new(self.tokens()))
    }
}

fn is_whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

fn token(name: &str, seconds: u64) -> String {
    json!({"access_token": name, "expires_in": seconds, "token_type": "Bearer"}).to_string()
}

#[tokio::test]
async fn a_token_is_asked_for_as_the_workspace_wants_it_and_kept() {
    let workspace = Workspace::start(&[(200, &token("t1", 3600)), (200, &token("t2", 3600))]).await;
    let tokens = workspace.tokens();
    let (first, second) = tokio::join!(tokens.get(TokenScope::Write), tokens.get(TokenScope::Write));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.bearer.reveal(), second.bearer.reveal()), ("t1", "t1"));
    assert!(first.fresh && !second.fresh, "one question serves both");
    assert_eq!(workspace.questions(), 1);
    let asked = workspace.heard.lock().unwrap()[0].clone();
    for part in [
        "POST /oidc/v1/token ",
        "grant_type=client_credentials",
        "scope=all-apis",
        "resource=api%3A%2F%2Fdatabricks%2Fworkspaces%2F77%2FzerobusDirectWriteApi",
        "zerobuswrite",
        "c.s.t",
        // me:hunter22
        "basic bwu6ahvudgvymji=",
    ] {
        assert!(
            asked.contains(part) || asked.to_lowercase().contains(part),
            "{part}\n{asked}"
        );
    }
    // The workspace's own interfaces get a token of their own, for everything.
    assert_eq!(
        tokens.get(TokenScope::Workspace).await.unwrap().bearer.reveal(),
        "t2"
    );
    assert!(!workspace.heard.lock().unwrap()[1].contains("authorization_details"));
    let shown = format!("{tokens:?} {:?} {:?}", first.bearer, workspace.credentials());
    assert!(!shown.contains("hunter22") && !shown.contains("t1"), "{shown}");
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_and_served_on_if_that_fails() {
    let workspace = Workspace::start(&[(200, &token("old", 1_000)), (503, "down")]).await;
    let tokens = workspace.tokens();
    tokens.get(TokenScope::Write).await.unwrap();
    let later = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    later(790).await;
    tokens.get(TokenScope::Write).await.unwrap();
    assert_eq!(workspace.questions(), 1, "not yet");
    later(20).await;
    assert_eq!(
        tokens.get(TokenScope::Write).await.unwrap().bearer.reveal(),
        "old"
    );
    assert_eq!(workspace.questions(), 2);
    assert_eq!(
        tokens.get(TokenScope::Write).await.unwrap().bearer.reveal(),
        "old"
    );
    assert_eq!(
        workspace.questions(),
        2,
        "a workspace that is down is left alone for a while"
    );
    later(6).await;
    workspace.will_answer(&[(200, &token("new", 1_000))]);
    assert_eq!(
        tokens.get(TokenScope::Write).await.unwrap().bearer.reveal(),
        "new"
    );
    workspace.will_answer(&[(503, "down")]);
    later(1_001).await;
    let error = tokens.get(TokenScope::Write).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable, "what has expired is not served");
}

#[tokio::test]
async fn only_the_token_that_was_refused_is_dropped() {
    let answers = [(200, token("t1", 3600)), (200, token("t2", 3600))];
    let answers: Vec<(u16, &str)> = answers
        .iter()
        .map(|(status, body)| (*status, body.as_str()))
        .collect();
    let workspace = Workspace::start(&answers).await;
    let tokens = workspace.tokens();
    let first = tokens.get(TokenScope::Write).await.unwrap();
    tokens.refused(TokenScope::Write, first.generation).await;
    let second = tokens.get(TokenScope::Write).await.unwrap();
    assert_eq!(second.bearer.reveal(), "t2");
    // A stream that was opened with the first says so late.
    tokens.refused(TokenScope::Write, first.generation).await;
    assert_eq!(tokens.get(TokenScope::Write).await.unwrap().bearer.reveal(), "t2");
    assert_eq!(workspace.questions(), 2);
}

#[tokio::test]
async fn lifetimes_are_read_in_either_spelling_and_a_token_without_one_is_used_once() {
    for (life, kept) in [
        (json!("3600"), true),
        (json!(3600), true),
        (json!(null), false),
        (json!("soon"), false),
        (json!(0), false),
    ] {
        let answer = json!({"access_token": "t", "expires_in": life}).to_string();
        let workspace = Workspace::start(&[(200, &answer)]).await;
        let tokens = workspace.tokens();
        tokens.get(TokenScope::Write).await.unwrap();
        tokens.get(TokenScope::Write).await.unwrap();
        assert_eq!(workspace.questions() == 1, kept, "{life}");
    }
}

/// 4xx of the token endpoint is not tried again, 5xx is; neither shows a secret.
#[tokio::test]
async fn what_a_workspace_answers_becomes_the_code_that_says_what_to_do() {
    let quoted = "the secret hunter22 is wrong";
    for (status, body, code) in [
        (401, quoted, Code::Unauthenticated),
        (403, quoted, Code::PermissionDenied),
        (400, quoted, Code::PermissionDenied),
        (302, quoted, Code::PermissionDenied),
        (404, quoted, Code::NotFound),
        (408, quoted, Code::Unavailable),
        (429, quoted, Code::ResourceExhausted),
        (500, quoted, Code::Unavailable),
        (200, "<html>", Code::PermissionDenied),
        (200, "{}", Code::PermissionDenied),
        (200, "{\"access_token\": \"two words\"}", Code::PermissionDenied),
    ] {
        let workspace = Workspace::start(&[(status, body)]).await;
        let error = workspace.tokens().get(TokenScope::Write).await.err().unwrap();
        assert_eq!(error.code(), code, "{status} {body}");
        assert!(!format!("{error:?}").contains("hunter22"));
        assert_eq!(error.hint().is_some(), status != 200);
    }
    // Cut in two by what is shown, and as it was sent.
    let cut = "x".repeat(495) + "hunter22 Basic bWU6aHVudGVyMjI=";
    let sent = "of Basic bWU6aHVudGVyMjI=";
    for body in [cut.as_str(), sent] {
        let workspace = Workspace::start(&[(401, body)]).await;
        let error = workspace.tokens().get(TokenScope::Write).await.err().unwrap();
        let shown = format!("{error:?} {}", error.message());
        assert!(!shown.contains("hunt") && !shown.contains("bWU6"), "{shown}");
        assert!(error.message().len() < 600);
    }
    let http = Http::new(
        "http://127.0.0.1:1",
        &TlsOptions::default(),
        Duration::from_secs(5),
    )
    .unwrap();
    let answer = http.answered(http.get("/"), "nobody", &Default::default()).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn unity_catalog_tells_the_schema_or_why_not() {
    let target =
        ZerobusTarget::parse("zerobus://77.zerobus.eu.example.com/c.s.t", &Config::default()).unwrap();
    let table = json!({"name": "t", "catalog_name": "c", "schema_name": "s", "columns": [
        {"name": "id", "type_name": "LONG", "nullable": false, "position": 0},
        {"name": "at", "type_name": "TIMESTAMP", "position": 1},
    ]});
    let odd = json!({"name": "t", "catalog_name": "c", "schema_name": "s", "columns": [
        {"name": "id", "type_name": "INTERVAL", "position": 0},
    ]});
    let (table, odd) = (table.to_string(), odd.to_string());
    let granted = token("t", 3600);
    let granted = granted.as_str();
    // Of what the workspace is asked: a token, the table, and again with the other token.
    for (answers, told) in [
        (vec![(200, granted), (200, table.as_str())], Ok("id,at")),
        (vec![(200, granted), (404, "no")], Err("does not know the table")),
        (
            vec![(200, granted), (403, "no"), (200, granted), (200, table.as_str())],
            Ok("id,at"),
        ),
        (
            vec![(400, "no"), (200, granted), (200, table.as_str())],
            Ok("id,at"),
        ),
        (vec![(200, granted), (403, "no")], Err("403")),
        (vec![(200, granted), (200, odd.as_str())], Err("no like in Arrow")),
        (vec![(200, granted), (200, "{}")], Err("no table")),
    ] {
        let workspace = Workspace::start(&answers).await;
        let asked = catalog::ask(&workspace.http(), &workspace.credentials(), &target.table).await;
        let found = asked.unwrap().map(|schema| {
            let names: Vec<&str> = schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            names.join(",")
        });
        match (found, told) {
            (Ok(found), Ok(told)) => assert_eq!(found, told),
            (Err(why), Err(word)) => assert!(why.contains(word), "{why}"),
            (found, told) => panic!("{found:?} {told:?}"),
        }
    }
    let workspace = Workspace::start(&[(200, granted), (503, "down")]).await;
    let asked = catalog::ask(&workspace.http(), &workspace.credentials(), &target.table).await;
    assert_eq!(asked.unwrap_err().code(), Code::Unavailable);
}

/// A token that was kept may have been taken back meanwhile: one more try with a new one.
#[tokio::test]
async fn a_kept_token_that_is_refused_is_replaced_once() {
    let target =
        ZerobusTarget::parse("zerobus://77.zerobus.eu.example.com/c.s.t", &Config::default()).unwrap();
    let table = json!({"name": "t", "catalog_name": "c", "schema_name": "s", "columns": []}).to_string();
    let granted = token("t", 3600);
    let workspace = Workspace::start(&[(200, &granted), (403, "old"), (200, &granted), (200, &table)]).await;
    let credentials = workspace.credentials();
    credentials.ask(TokenScope::Workspace).await.unwrap();
    assert!(
        catalog::ask(&workspace.http(), &credentials, &target.table)
            .await
            .unwrap()
            .is_ok()
    );
    assert_eq!(workspace.questions(), 4);
}

/// Whoever opens the next stream must not be given what the last one was refused with.
#[tokio::test]
async fn a_stream_that_was_refused_leaves_no_token_behind() {
    let workspace = Workspace::start(&[(200, &token("t1", 3600)), (200, &token("t2", 3600))]).await;
    let credentials = Arc::new(workspace.credentials());
    let granted = credentials.ask(TokenScope::Write).await.unwrap();
    assert!(!credentials.ask(TokenScope::Write).await.unwrap().fresh);
    credentials.on_refusal(&granted)().await;
    assert!(credentials.ask(TokenScope::Write).await.unwrap().fresh);
    assert_eq!(workspace.questions(), 2);
    // Nobody said who said it: a service may repeat the secret, which nobody may see.
    let secret = granted.secrets.scrub("not with hunter22");
    assert!(!secret.contains("hunter22"), "{secret}");
}

#[test]
fn certificates_are_read_for_both_sides() {
    let key = Secret::new("-----BEGIN PRIVATE KEY-----\nhunter22\n-----END PRIVATE KEY-----");
    let cert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".to_string();
    let tls = TlsOptions {
        ca: Some(cert.clone()),
        cert: Some(cert),
        key: Some(key),
        server_name: Some("zerobus".into()),
    };
    let error = Http::new("https://127.0.0.1:1", &tls, Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    assert!(!format!("{error:?}").contains("hunter22"));
    assert!(error.message().contains("tls.ca"), "{error}");
}
