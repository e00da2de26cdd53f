//! Reaching the service: credentials, certificates, checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_ingest::callbacks::{HeaderProvider, HeadersReason};
use arrow_ingest::config::Config;
use arrow_ingest::destination::Destination;
use arrow_ingest::destination::zerobus::Zerobus;
use arrow_ingest::error::{Code, Result, RetryClass};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::emulated::{Rig as Emulated, TABLE};
use crate::harness::rig::Rig;
use crate::support::{Road, check_acknowledged, client, connect, numbers};

/// One authority for all of it: tokens, tables, streams.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_by_the_authority_that_is_given() {
    let road = Road::new(json!({"tls": true}), json!({})).await;
    check_acknowledged(&road.deliver(5).await, 5);
    road.check_once(5);
    let mut options = client(&road.emulated, json!({}));
    options["tls"] = json!({});
    let error = connect(&road.emulated, &options).await.err().unwrap();
    assert_eq!(
        error.code(),
        Code::ConfigInvalid,
        "a stranger's certificate is not believed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_arrives() {
    for compression in ["none", "lz4", "zstd"] {
        let road = Road::new(json!({}), json!({"zerobus": {"compression": compression}})).await;
        check_acknowledged(&road.deliver(3).await, 3);
        road.check_once(3);
    }
}

/// Writing waits when enough is under way, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_stream_is_slow_and_never_stuck() {
    let road = Road::new(json!({}), json!({"zerobus": {"maxInflightBatches": 1}})).await;
    check_acknowledged(&road.deliver(20).await, 20);
    road.check_once(20);
}

/// 4xx of the token endpoint is not tried again, 5xx is; nothing shows the secret.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_tried_at_connect() {
    let emulated = Emulated::new(json!({"clientId": "client", "clientSecret": "right"})).await;
    let error = connect(&emulated, &client(&emulated, json!({})))
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::Unauthenticated);
    let emulated = Emulated::with_fault("token:status=503,times=1").await;
    let options = client(&emulated, json!({"zerobus": {"clientSecret": "hunter22"}}));
    let error = connect(&emulated, &options).await.err().unwrap();
    assert_eq!(error.retry_class(), RetryClass::Transient);
    assert!(!format!("{error:?}").contains("hunter22"));
    connect(&emulated, &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_token_table_and_stream_and_writes_nothing() {
    let emulated = Emulated::new(json!({"tables": {TABLE: [{"name": "id", "type": "bigint"}]}})).await;
    let zerobus = connect(&emulated, &client(&emulated, json!({}))).await.unwrap();
    zerobus.check().await.unwrap();
    assert_eq!(emulated.emulator.summary().await.streams, 1);
    assert_eq!(emulated.ids(), Vec::<i64>::new());
    emulated.fault("refuse:status=PERMISSION_DENIED,message=no grant,times=2");
    let error = zerobus.check().await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(error.message().contains("no grant"));
    emulated.fault("token:status=500");
    emulated.fault("expire-token");
    assert_eq!(zerobus.check().await.unwrap_err().code(), Code::Unavailable);
}

/// headers of the user's own replace tokens; whoever gives them is told when they are refused.
struct Asked {
    reasons: AtomicUsize,
}

#[async_trait]
impl HeaderProvider for Asked {
    async fn headers(&self, reason: HeadersReason) -> Result<Vec<(String, String)>> {
        let token = match reason {
            HeadersReason::Connect => "stale-token",
            HeadersReason::Unauthenticated => {
                self.reasons.fetch_add(1, Ordering::SeqCst);
                "given-token"
            }
        };
        Ok(vec![
            ("Authorization".into(), format!("Bearer {token}")),
            ("x-team".into(), "ice".into()),
        ])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_provider_replaces_tokens_and_is_told_of_refusals() {
    let emulated = Emulated::new(json!({})).await;
    let provider = Arc::new(Asked {
        reasons: AtomicUsize::new(0),
    });
    let config = Config {
        header_provider: Some(provider.clone()),
        ..Config::default()
    };
    let zerobus = Zerobus::connect(&emulated.emulator.url(TABLE), &config)
        .await
        .unwrap();
    let rig = Rig::over(Arc::new(zerobus), json!({"retry": {"attempts": 1}}));
    rig.send(&numbers(0..10));
    rig.close(std::time::Duration::from_secs(20)).await.unwrap();
    assert_eq!(emulated.ids(), (0..10).collect::<Vec<_>>());
    assert_eq!(provider.reasons.load(Ordering::SeqCst), 1);
    assert_eq!(emulated.emulator.summary().await.tokens_issued, 0);
}

/// For tokens, Unity Catalog and streams alike; the system's are read from the environment, which is a
/// process's own.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_given_replaces_the_systems_and_serves_without_them() {
    let emulated = Emulated::new(json!({"tls": true})).await;
    let mut stranger = rcgen::CertificateParams::new(Vec::new()).unwrap();
    stranger.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let stranger = stranger
        .self_signed(&rcgen::KeyPair::generate().unwrap())
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_string()
    };
    let system = file("system.pem", emulated.emulator.ca_pem().unwrap());
    let other = file("other.pem", &stranger.pem());
    for (certificates, ca, says) in [
        (system.as_str(), None, "Acknowledged"),
        (system.as_str(), Some(&other), "none of the authorities in tls.ca"),
        ("/dev/null", Some(&system), "Acknowledged"),
        ("/dev/null", None, "no authority that is known here"),
    ] {
        let mut options = client(&emulated, json!({}));
        options["tls"] = json!({ "ca": ca });
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child
            .args([
                "--exact",
                "connecting::rows_are_sent_and_told_of",
                "--ignored",
                "--nocapture",
            ])
            .env("SSL_CERT_FILE", certificates)
            .env("SSL_CERT_DIR", "/var/empty")
            .env("TARGET", emulated.emulator.url(TABLE))
            .env("OPTIONS", options.to_string());
        let output = tokio::task::spawn_blocking(move || child.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(says), "{certificates} {ca:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by an_authority_that_is_given_replaces_the_systems_and_serves_without_them, as a child"]
async fn rows_are_sent_and_told_of() {
    let options: Value = serde_json::from_str(&std::env::var("OPTIONS").unwrap()).unwrap();
    let config = Config::from_json(&options).unwrap();
    let zerobus = match Zerobus::connect(&std::env::var("TARGET").unwrap(), &config).await {
        Ok(zerobus) => zerobus,
        Err(error) => return println!("\n{error}"),
    };
    let rig = Rig::over(Arc::new(zerobus), options);
    rig.send(&numbers(0..10));
    rig.close(std::time::Duration::from_secs(20)).await.unwrap();
    println!("\n{:?}", rig.heard().outcomes[0].status);
}

struct Reserved(&'static str);

#[async_trait]
impl HeaderProvider for Reserved {
    async fn headers(&self, _: HeadersReason) -> Result<Vec<(String, String)>> {
        Ok(vec![(self.0.into(), "not.this.one".into())])
    }
}

/// What the crate would leave out, or choke on with the first rows, is refused by name at connect.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_the_service_cannot_be_given_are_refused_at_connect() {
    let emulated = Emulated::new(json!({})).await;
    for name in ["X-Databricks-Zerobus-Table-Name", "trace-bin"] {
        let given = json!({"headers": {"authorization": "Bearer x", name: "not.this.one"}});
        let asked = Config {
            header_provider: Some(Arc::new(Reserved(name))),
            ..Config::default()
        };
        for config in [Config::from_json(&given).unwrap(), asked] {
            let url = emulated.emulator.url(TABLE);
            let error = Zerobus::connect(&url, &config).await.err().unwrap();
            assert_eq!(error.code(), Code::ConfigInvalid);
            assert!(error.message().contains(&name.to_ascii_lowercase()), "{error}");
        }
    }
}

/// Tokens come from one address and rows go to another, which is met before the client counts as connected.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_met_at_connect() {
    let emulated = Emulated::new(json!({})).await;
    let options = client(&emulated, json!({}));
    let config = Config::from_json(&options).unwrap();
    let secure = emulated.emulator.url(TABLE).replace("zerobus+http:", "zerobus:");
    let error = Zerobus::connect(&secure, &config).await.err().unwrap();
    assert_eq!(
        (error.code(), error.retry_class()),
        (Code::ConfigInvalid, RetryClass::Never)
    );
    assert!(error.message().contains("does not speak TLS"), "{error}");
    let nobody = "zerobus+http://127.0.0.1:1/main.air.flights";
    let error = Zerobus::connect(nobody, &config).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error.message().contains("cannot be reached") && !error.message().contains("answered"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_given_once_are_enough() {
    let emulated = Emulated::new(json!({})).await;
    let options = json!({
        "headers": {"authorization": "Bearer given-token"},
        "zerobus": {"unityCatalogUrl": emulated.emulator.unity_catalog_url()},
    });
    let zerobus = connect(&emulated, &options).await.unwrap();
    let rig = Rig::over(Arc::new(zerobus), Value::Object(Default::default()));
    rig.send(&numbers(0..10));
    rig.close(std::time::Duration::from_secs(20)).await.unwrap();
    assert_eq!(emulated.ids(), (0..10).collect::<Vec<_>>());
    // Wrong ones are wrong for good: nobody can be asked for others.
    let wrong = json!({"headers": {"authorization": "Bearer no-such-token"}});
    let zerobus = connect(&emulated, &wrong).await.unwrap();
    let rig = Rig::over(
        Arc::new(zerobus),
        json!({"retry": {"attempts": 2, "baseDelay": "1ms", "maxDelay": "2ms"}}),
    );
    let sent = rig.send(&numbers(0..10));
    let error = rig.outcome(sent).await.error.unwrap();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(!format!("{error:?}").contains("no-such-token"));
    rig.close(std::time::Duration::from_secs(20)).await.unwrap();
}

/// Proxies are for the way to others: this machine is reached without them. Asked of another process,
/// because an environment cannot be changed safely under running threads.
#[test]
fn proxies_of_the_environment_are_left_alone_on_this_machine() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "faults::rows_arrive_and_are_acknowledged"]);
    for name in ["grpc_proxy", "https_proxy", "http_proxy", "all_proxy"] {
        for name in [name.to_string(), name.to_uppercase()] {
            command.env(name, "http://127.0.0.1:1");
        }
    }
    for name in ["no_proxy", "NO_PROXY", "no_grpc_proxy", "NO_GRPC_PROXY"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
