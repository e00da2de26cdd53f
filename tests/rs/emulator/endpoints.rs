//! IssuedTokens and tables over HTTP, asked by hand.

use arrow_flight::Empty;
use arrow_ingest::emulator::{Emulator, EmulatorConfig, EmulatorEvent};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

#[cfg(target_os = "linux")]
use crate::starting::while_a_program_starts;
use crate::support::{Rig, TABLE, deliver, once, rows};

/// One request of HTTP/1.1; its status and its JSON.
async fn ask(rig: &Rig, head: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(rig.emulator.address()).await.unwrap();
    let mut request = format!("{head} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (
        status,
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")),
    )
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

fn form(change: impl FnOnce(&mut Vec<(&'static str, String)>)) -> String {
    let details = json!([
        { "type": "unity_catalog_privileges", "privileges": ["USE CATALOG"], "object_type": "CATALOG",
          "object_full_path": "main" },
        { "type": "unity_catalog_privileges", "privileges": ["USE SCHEMA"], "object_type": "SCHEMA",
          "object_full_path": "main.test" },
        { "type": "unity_catalog_privileges", "privileges": ["SELECT", "MODIFY"], "object_type": "TABLE",
          "object_full_path": TABLE, "operations": ["zerobuswrite"] },
    ]);
    let mut fields = vec![
        ("grant_type", "client_credentials".to_string()),
        ("scope", "all-apis".to_string()),
        (
            "resource",
            "api://databricks/workspaces/127/zerobusDirectWriteApi".to_string(),
        ),
        ("authorization_details", details.to_string()),
    ];
    change(&mut fields);
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

fn set(name: &'static str, value: &str) -> String {
    form(|fields| {
        fields.retain(|(field, _)| *field != name);
        fields.push((name, value.to_string()));
    })
}

async fn token(rig: &Rig, authorization: &str, body: &str) -> (u16, Value) {
    let headers = [
        ("authorization", authorization),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    ask(rig, "POST /oidc/v1/token", &headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_given_to_who_asks_as_the_service_wants_it() {
    let rig = Rig::new(json!({ "clientId": "me", "clientSecret": "hush", "tokenLifetime": "90s" })).await;
    let (status, reply) = token(&rig, &basic("me", "hush"), &form(|_| {})).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(
        (&reply["expires_in"], &reply["token_type"]),
        (&json!(90), &json!("Bearer"))
    );
    let text = reply["access_token"].as_str().unwrap();
    assert!(
        !rig.lines()
            .iter()
            .any(|line| line.contains(text) || line.contains("hush"))
    );
    assert!(
        rig.lines()
            .contains(&format!("token for {TABLE} to \"me\", good for 1m 30s"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_request_for_a_token_is_named() {
    let rig = Rig::new(json!({ "clientId": "me", "clientSecret": "hush" })).await;
    let details = |from: &str, to: &str| {
        form(|fields| {
            for (name, value) in fields {
                if *name == "authorization_details" {
                    *value = value.replace(from, to);
                }
            }
        })
    };
    let good = basic("me", "hush");
    for (authorization, body, status, error, part) in [
        (basic("me", "wrong"), form(|_| {}), 401, "invalid_client", "wrong"),
        (basic("you", "hush"), form(|_| {}), 401, "invalid_client", "wrong"),
        ("Bearer x".into(), form(|_| {}), 401, "invalid_client", "Basic"),
        (
            good.clone(),
            set("grant_type", "password"),
            400,
            "unsupported_grant_type",
            "password",
        ),
        (good.clone(), set("scope", "sql"), 400, "invalid_scope", "sql"),
        (
            good.clone(),
            set("resource", "api://databricks/workspaces//zerobusDirectWriteApi"),
            400,
            "invalid_target",
            "workspace",
        ),
        (
            good.clone(),
            set("authorization_details", "{"),
            400,
            "invalid_authorization_details",
            "JSON",
        ),
        (
            good.clone(),
            set("authorization_details", "[]"),
            400,
            "invalid_authorization_details",
            "TABLE",
        ),
        (
            good.clone(),
            details(TABLE, "main.events"),
            400,
            "invalid_authorization_details",
            "three parts",
        ),
        (
            good.clone(),
            details("USE SCHEMA", "USE"),
            400,
            "invalid_authorization_details",
            "USE SCHEMA",
        ),
        (
            good.clone(),
            details("\"MODIFY\"", "\"READ\""),
            400,
            "invalid_authorization_details",
            "MODIFY",
        ),
        (
            good.clone(),
            details("zerobuswrite", "x"),
            400,
            "invalid_authorization_details",
            "zerobuswrite",
        ),
        (
            good.clone(),
            form(|fields| fields.truncate(3)),
            400,
            "invalid_request",
            "together",
        ),
        (
            good.clone(),
            set("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            400,
            "invalid_request",
            "subject_token",
        ),
    ] {
        let (found, reply) = token(&rig, &authorization, &body).await;
        assert_eq!(
            (found, reply["error"].as_str().unwrap()),
            (status, error),
            "{reply}"
        );
        assert!(
            reply["error_description"].as_str().unwrap().contains(part),
            "{reply}"
        );
    }
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let (status, _) = ask(&rig, "POST /oidc/v1/token", &headers, &form(|_| {})).await;
    assert_eq!(status, 401);
    assert_eq!(rig.emulator.summary().await.tokens_issued, 0);
}

/// The grant with which a workload brings a token of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_given_for_another_token() {
    let rig = Rig::new(json!({})).await;
    let body = form(|fields| {
        fields[0].1 = "urn:ietf:params:oauth:grant-type:token-exchange".into();
        fields.push(("subject_token", "theirs".into()));
        fields.push((
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:jwt".into(),
        ));
    });
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let (status, reply) = ask(&rig, "POST /oidc/v1/token", &headers, &body).await;
    assert_eq!(status, 200, "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_described_to_who_has_a_token() {
    let rig = Rig::new(json!({})).await;
    deliver(&mut rig.stream(&rows(0, 1).schema()).await.unwrap(), 1).await;
    let given = [("authorization", "Bearer given-token")];
    let path = |name: &str| format!("GET /api/2.1/unity-catalog/tables/{name}");
    let (status, table) = ask(&rig, &path(TABLE), &given, "").await;
    assert_eq!(status, 200);
    assert_eq!(table["columns"][0]["type_name"], "LONG");
    assert_eq!(table["columns"][1]["type_text"], "string");
    assert_eq!(table["full_name"], TABLE);
    for (name, headers, status, code) in [
        ("main.test.none", &given[..], 404, "TABLE_DOES_NOT_EXIST"),
        ("main.none", &given[..], 400, "INVALID_PARAMETER_VALUE"),
        (TABLE, &[], 401, "UNAUTHENTICATED"),
        (
            TABLE,
            &[("authorization", "Bearer unknown")],
            401,
            "UNAUTHENTICATED",
        ),
    ] {
        let (found, reply) = ask(&rig, &path(name), headers, "").await;
        assert_eq!(
            (found, reply["error_code"].as_str().unwrap()),
            (status, code),
            "{reply}"
        );
    }
    // A token for the table API alone: asked without a resource, and good for no stream.
    let plain = form(|fields| fields.truncate(2));
    let (_, reply) = token(&rig, &basic("a", "b"), &plain).await;
    let bearer = format!("Bearer {}", reply["access_token"].as_str().unwrap());
    let (status, _) = ask(&rig, &path(TABLE), &[("authorization", &bearer)], "").await;
    assert_eq!(status, 200);
}

/// A token that is no longer good is refused by the table API and by the Flight endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires() {
    let rig = Rig::new(json!({ "tokenLifetime": 0 })).await;
    let (_, reply) = token(&rig, &basic("a", "b"), &form(|_| {})).await;
    let bearer = format!("Bearer {}", reply["access_token"].as_str().unwrap());
    let path = format!("GET /api/2.1/unity-catalog/tables/{TABLE}");
    let (status, reply) = ask(&rig, &path, &[("authorization", &bearer)], "").await;
    assert_eq!(
        (status, &reply["message"]),
        (401, &json!("the token has expired"))
    );
    let refused = rig.stream_with(&rows(0, 1).schema(), once).await.err().unwrap();
    assert!(refused.to_string().contains("has expired"), "{refused}");
}

/// Tables whose files are damaged are not described as if they were fine.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_read_is_an_error_of_the_server() {
    let rig = Rig::new(json!({})).await;
    let log = rig.table().join("_delta_log");
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("00000000000000000000.json"), "nonsense").unwrap();
    let path = format!("GET /api/2.1/unity-catalog/tables/{TABLE}");
    let (status, reply) = ask(&rig, &path, &[("authorization", "Bearer given-token")], "").await;
    assert_eq!(
        (status, reply["error_code"].as_str().unwrap()),
        (500, "INTERNAL_ERROR"),
        "{reply}"
    );
    let refused = rig.stream_with(&rows(0, 1).schema(), once).await.err().unwrap();
    assert!(refused.to_string().contains("TABLE_CORRUPT"), "{refused}");
}

/// Also one in the midst of a request: a port that is given back has nobody left on it.
#[tokio::test]
async fn no_connection_outlives_its_emulator() {
    let rig = Rig::new(json!({})).await;
    let mut lines = Vec::new();
    for text in [
        "",
        "POST /oidc/v1/token HTTP/1.1\r\nhost: here\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n\r\nhalf",
    ] {
        let mut line = TcpStream::connect(rig.emulator.address()).await.unwrap();
        line.write_all(text.as_bytes()).await.unwrap();
        lines.push(line);
    }
    // Taken in after those two, so they are taken in by now.
    ask(&rig, "GET /api/2.1/unity-catalog/tables/a.b.c", &[], "").await;
    drop(rig.emulator);
    for mut line in lines {
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
    }
}

/// A program that is being started has the port open, too, until it runs. On Linux a socket can be told not to listen.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_given_back_while_a_program_is_being_started() {
    let emulator = Emulator::start(EmulatorConfig::default()).await.unwrap();
    let port = emulator.address().port();
    let again = async {
        emulator.shutdown().await.unwrap();
        let same = EmulatorConfig {
            port,
            ..EmulatorConfig::default()
        };
        let again = Emulator::start(same).await.unwrap();
        again.shutdown().await.unwrap();
    };
    tokio::task::block_in_place(|| {
        while_a_program_starts(|| tokio::runtime::Handle::current().block_on(again));
    });
}

/// clients of some languages send no operations; who sends some must ask for the right one.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_given_to_who_names_no_operation() {
    let rig = Rig::new(json!({})).await;
    let details = |to: &str| {
        form(|fields| {
            for (_, value) in fields {
                *value = value.replace(",\"operations\":[\"zerobuswrite\"]", to);
                *value = value.replace("\"operations\":[\"zerobuswrite\"],", to);
            }
        })
    };
    let none = details("");
    assert!(!none.contains("operations"));
    assert_eq!(token(&rig, &basic("me", "any"), &none).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_url_may_end_in_a_slash() {
    let rig = Rig::new(json!({})).await;
    let basic = basic("me", "any");
    let headers = [
        ("authorization", basic.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body = form(|_| {});
    let (status, reply) = ask(&rig, "POST //oidc/v1/token", &headers, &body).await;
    assert_eq!(status, 200, "{reply}");
    let bearer = format!("Bearer {}", reply["access_token"].as_str().unwrap());
    let path = format!("GET //api/2.1/unity-catalog/tables/{TABLE}");
    let (status, reply) = ask(&rig, &path, &[("authorization", &bearer)], "").await;
    assert_eq!(
        (status, &reply["error_code"]),
        (404, &json!("TABLE_DOES_NOT_EXIST"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_nothing_answers_to_is_told_what_does() {
    let rig = Rig::new(json!({})).await;
    for head in ["GET /nowhere", "GET /oidc/v1/token"] {
        let (status, reply) = ask(&rig, head, &[], "").await;
        assert_eq!(status, 404, "{reply}");
        assert!(
            reply["message"].as_str().unwrap().contains("POST /oidc/v1/token"),
            "{reply}"
        );
    }
    assert!(
        rig.lines()
            .iter()
            .any(|line| line.starts_with("request for \"/nowhere\" refused: GET /nowhere"))
    );
}

/// record streams are another road of the service; their clients must not try again for what never passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_call_that_is_not_served_is_unimplemented_with_a_sentence() {
    let rig = Rig::new(json!({})).await;
    let channel = Endpoint::from_shared(format!("http://{}", rig.emulator.address()))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/databricks.zerobus.Zerobus/EphemeralStream");
    let codec: ProstCodec<Empty, Empty> = ProstCodec::default();
    let calls = futures::stream::iter([Empty {}]);
    let refused = client
        .streaming(Request::new(calls), path, codec)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("takes Arrow streams"), "{refused}");
    assert!(rig.events().iter().any(
        |event| matches!(event, EmulatorEvent::RequestRefused { path, .. } if path.ends_with("/EphemeralStream"))
    ));
}
