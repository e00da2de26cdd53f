//! Targets and storage options, and the local store that syncs.

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// R-20: every cloud's URL becomes a store, with the table's path as its prefix.
#[test]
fn every_cloud_has_a_store() {
    let s3 = [
        ("aws_region", "eu-west-1"),
        ("aws_access_key_id", "k"),
        ("aws_secret_access_key", "s"),
    ];
    let azure = [
        ("azure_storage_account_name", "account"),
        ("azure_storage_account_key", "c2VjcmV0"),
    ];
    let key = r#"{"gcs_base_url":"http://127.0.0.1:9","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;
    let google = [("google_service_account_key", key)];
    for (target, storage) in [
        ("delta:s3://bucket/a/table", pairs(&s3)),
        ("delta:s3a://bucket/a/table/", pairs(&s3)),
        ("delta:az://container/a/table", pairs(&azure)),
        (
            "delta:abfss://container@account.dfs.core.windows.net/a/table",
            pairs(&azure),
        ),
        ("delta:gs://bucket/a/table", pairs(&google)),
    ] {
        let location = Location::parse(target, &storage).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert!(location.local.is_none() && !location.poisoned());
        assert_eq!(location.url.path(), "/a/table/", "{target}");
    }
}

/// What deltalake-core may do with the store does what it says, and puts are atomic.
#[tokio::test(flavor = "multi_thread")]
async fn the_local_store_is_a_whole_store() {
    let home = tempfile::tempdir().unwrap();
    let location = Location::parse(&format!("delta:{}", home.path().display()), &BTreeMap::new()).unwrap();
    is_whole(&location).await;
    let root = location.log.root_object_store(None);
    assert!(root.to_string().starts_with("synced"));
}

/// And so is one that aborts uploads; one that has ended takes nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_aborts_uploads_is_a_whole_store() {
    let url = Url::parse("memory:///table/").unwrap();
    let inner = Arc::new(object_store::memory::InMemory::new());
    let location = Location::over(url, inner, None, Classifier::default(), Arc::default()).unwrap();
    is_whole(&location).await;
    let root = location.log.root_object_store(None);
    assert_eq!(root.to_string(), "InMemory");
    let mut upload = root.put_multipart(&Path::from("x")).await.unwrap();
    upload.put_part("part".into()).await.unwrap();
    upload.complete().await.unwrap();
    assert!(upload.put_part("late".into()).await.is_err());
    assert!(upload.complete().await.is_err() && upload.abort().await.is_err());
}

async fn is_whole(location: &Location) {
    let store = location.store();
    let (a, b, c) = (Path::from("x/a"), Path::from("x/b"), Path::from("x/c"));
    store.put(&a, "one".into()).await.unwrap();
    store.put(&a, "two".into()).await.unwrap();
    let create = PutOptions::from(PutMode::Create);
    let taken = store.put_opts(&a, "three".into(), create).await;
    assert!(matches!(taken, Err(object_store::Error::AlreadyExists { .. })));
    let update = PutOptions::from(PutMode::Update(object_store::UpdateVersion {
        e_tag: None,
        version: None,
    }));
    assert!(store.put_opts(&a, "four".into(), update).await.is_err());
    store.copy(&a, &b).await.unwrap();
    store.rename(&b, &c).await.unwrap();
    let mut upload = store.put_multipart(&b).await.unwrap();
    upload.put_part("part".into()).await.unwrap();
    upload.complete().await.unwrap();
    store
        .put_multipart(&Path::from("x/d"))
        .await
        .unwrap()
        .abort()
        .await
        .unwrap();
    assert_eq!(store.get_ranges(&a, &[0..1, 1..3]).await.unwrap()[1], "wo");
    assert_eq!(
        store
            .list_with_delimiter(None)
            .await
            .unwrap()
            .common_prefixes
            .len(),
        1
    );
    assert_eq!(
        store
            .list_with_offset(None, &a)
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .len(),
        2
    );
    let all = futures::stream::iter([Ok(a), Ok(b), Ok(c)]).boxed();
    assert_eq!(
        store
            .delete_stream(all)
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .len(),
        3
    );
    assert_eq!(store.list(None).count().await, 0);
}

/// An I/O error keeps its number and gains the file's name.
#[test]
fn an_error_names_the_file() {
    let error = super::super::local::generic(
        std::path::Path::new("/the/file"),
        std::io::Error::from_raw_os_error(28),
    );
    let shown = format!("{error}");
    assert!(shown.contains("/the/file"), "{shown}");
    let found = super::super::errors::Classifier::default().store(&error);
    assert_eq!(found.code(), Code::ResourceExhausted);
}

/// R-44: a PEM text that holds no certificate is said at connect, and not at each try to connect by it.
#[test]
fn a_certificate_that_is_none_is_refused() {
    let with = |pem: &str| {
        let storage = [
            ("aws_region", "r"),
            ("proxy_url", "http://127.0.0.1:9"),
            ("proxy_ca_certificate", pem),
        ];
        Location::parse("delta:s3://bucket/table", &pairs(&storage))
    };
    let good = rcgen::generate_simple_self_signed(vec!["proxy".into()])
        .unwrap()
        .cert
        .pem();
    assert!(with(&good).is_ok());
    let marks = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    for wrong in [
        "nonsense".to_string(),
        format!("{}\n!!!\n{}", marks.0, marks.1),
        format!("{}\naGVsbG8=\n{}", marks.0, marks.1),
        format!("{good}\n{}\naGVsbG8=\n{}", marks.0, marks.1),
    ] {
        let Err(error) = with(&wrong) else {
            panic!("{wrong}")
        };
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.message().contains("proxy_ca_certificate"), "{error}");
    }
}
