//! Which tables this writer can append to without breaking a promise of theirs.
//!
//! The protocol's sections were read one by one for [`harmless`]. What is not the protocol's and in use all
//! the same is here too: Spark's `CHAR` and `VARCHAR`, and columns of type `void`.
//!
//! A feature that is merely listed and not in use asks nothing of an append; one that is in use, or
//! that obliges every writer once listed, is refused by its name. deltalake-core's own check goes by
//! the list alone, and without datafusion it would refuse every table that Databricks makes.

use deltalake_core::kernel::{DataType, Metadata, PrimitiveType, Protocol, StructField, StructType};

use super::types::Length;
use crate::error::{Code, Error, Result};

/// # Errors
/// `UNSUPPORTED` naming every feature that stands in the way.
pub fn check(protocol: &Protocol, metadata: &Metadata, schema: &StructType) -> Result<()> {
    refuse(&refused(protocol, metadata, schema))
}

/// What can be said of a table whose schema cannot be read: a feature may have brought types that only its own
/// readers know.
///
/// # Errors
/// As [`check`].
pub fn check_listed(protocol: &Protocol) -> Result<()> {
    let mut found = Vec::new();
    listed(protocol, &mut found);
    refuse(&found)
}

fn refuse(found: &[String]) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the table uses what this writer cannot honour: {}",
        found.join(", ")
    );
    Err(Error::new(Code::Unsupported, text).during("open"))
}

fn refused(protocol: &Protocol, metadata: &Metadata, schema: &StructType) -> Vec<String> {
    let mut found = Vec::new();
    let configuration = metadata.configuration();
    let is_on = |key: &str| {
        configuration
            .get(key)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    };
    let mode = configuration
        .get("delta.columnMapping.mode")
        .map_or("none", String::as_str);
    if !mode.eq_ignore_ascii_case("none") {
        found.push(format!("columnMapping (mode {mode})"));
    }
    if let Some(name) = configuration
        .keys()
        .find_map(|key| key.strip_prefix("delta.constraints."))
    {
        found.push(format!("checkConstraints ({name})"));
    }
    for (key, feature) in [
        ("delta.enableChangeDataFeed", "changeDataFeed"),
        ("delta.enableRowTracking", "rowTracking"),
        ("delta.enableInCommitTimestamps", "inCommitTimestamp"),
        ("delta.enableIcebergCompatV1", "icebergCompatV1"),
        ("delta.enableIcebergCompatV2", "icebergCompatV2"),
    ] {
        if is_on(key) {
            found.push(feature.to_string());
        }
    }
    for (key, feature) in [
        ("delta.invariants", "invariants"),
        ("delta.generationExpression", "generatedColumns"),
        ("delta.identity.step", "identityColumns"),
    ] {
        if let Some(column) = first_with(schema, &|field| field.metadata.contains_key(key)) {
            found.push(format!("{feature} (column {column})"));
        }
    }
    let on_top = |field: &StructField| {
        schema
            .field(&field.name)
            .is_some_and(|top| std::ptr::eq(top, field))
    };
    // Of a string column its length is kept ([`Length`]); inside other types it is not looked at.
    let other_length = |field: &StructField| {
        field.metadata.contains_key(Length::KEY) && (Length::of(field).is_none() || !on_top(field))
    };
    if let Some(column) = first_with(schema, &other_length) {
        found.push(format!("CHAR or VARCHAR inside another type (column {column})"));
    }
    let void = |field: &StructField| field.data_type == DataType::Primitive(PrimitiveType::Void);
    let nested_void = |field: &StructField| void(field) && !on_top(field);
    if let Some(column) = first_with(schema, &nested_void) {
        found.push(format!("void inside another type (column {column})"));
    }
    let by = metadata.partition_columns();
    if schema.fields().len() > 0
        && schema
            .fields()
            .all(|field| by.contains(&field.name) || void(field))
    {
        // A file of no columns holds no rows either, and what was sent would be gone.
        found.push("no column that its files could store, besides those that partition it".into());
    }
    listed(protocol, &mut found);
    found
}

/// Versions above ours, and lists: a word that is unknown may mean anything.
fn listed(protocol: &Protocol, found: &mut Vec<String>) {
    if protocol.min_reader_version() > 3 || protocol.min_writer_version() > 7 {
        found.push(format!(
            "protocol {}/{}",
            protocol.min_reader_version(),
            protocol.min_writer_version()
        ));
    }
    let names = protocol
        .writer_features()
        .into_iter()
        .chain(protocol.reader_features())
        .flatten();
    for feature in names {
        let name = feature.to_string();
        if !harmless(&name) && !found.iter().any(|known| known.starts_with(&name)) {
            found.push(name);
        }
    }
}

/// Features that ask nothing of an append, or nothing unless they are in use (checked above).
fn harmless(feature: &str) -> bool {
    matches!(
        feature,
        "appendOnly"
            | "timestampNtz"
            | "deletionVectors"
            | "v2Checkpoint"
            | "vacuumProtocolCheck"
            | "checkpointProtection"
            | "domainMetadata"
            | "invariants"
            | "checkConstraints"
            | "changeDataFeed"
            | "generatedColumns"
            | "identityColumns"
            | "columnMapping"
            | "inCommitTimestamp"
            | "allowColumnDefaults"
            | "variantType"
            | "variantType-preview"
    )
}

/// The path of the first field, at any depth, of which this is so.
fn first_with(schema: &StructType, is: &dyn Fn(&StructField) -> bool) -> Option<String> {
    schema.fields().find_map(|field| field_with(field, is))
}

fn field_with(field: &StructField, is: &dyn Fn(&StructField) -> bool) -> Option<String> {
    if is(field) {
        return Some(field.name.clone());
    }
    let within = |name: &str, of: &DataType| field_with(&StructField::nullable(name, of.clone()), is);
    let inner = match &field.data_type {
        DataType::Struct(fields) => first_with(fields, is),
        DataType::Array(array) => within("element", array.element_type()),
        DataType::Map(map) => within("key", map.key_type()).or_else(|| within("value", map.value_type())),
        DataType::Primitive(_) | DataType::Variant(_) => None,
    }?;
    Some(format!("{}.{inner}", field.name))
}

/// The least that every reader and writer knows.
fn plain() -> Protocol {
    let versions = serde_json::json!({ "minReaderVersion": 1, "minWriterVersion": 2 });
    serde_json::from_value(versions).expect("two versions are a protocol")
}

/// The protocol of a new table.
pub fn fresh(schema: &StructType) -> Protocol {
    upgrade(&plain(), schema).unwrap_or_else(plain)
}

/// The protocol that a schema with times without a zone asks for, if the table's is not enough.
pub fn upgrade(protocol: &Protocol, schema: &StructType) -> Option<Protocol> {
    const NTZ: &str = "timestampNtz";
    let lists = |features: Option<&[_]>| -> Vec<String> {
        features
            .into_iter()
            .flatten()
            .map(delta_kernel::table_features::TableFeature::to_string)
            .collect()
    };
    let mut writer = lists(protocol.writer_features());
    let mut reader = lists(protocol.reader_features());
    // deltalake-core's own search does not look into maps, and no reader opens a table of such times without this.
    let has_local_times = first_with(schema, &|field| field.data_type == DataType::TIMESTAMP_NTZ).is_some();
    if !has_local_times || writer.iter().any(|feature| feature == NTZ) {
        return None;
    }
    // From version 7 on features are listed by name; what the old number stood for must be, too.
    const IMPLIED: [(i32, &str); 7] = [
        (2, "appendOnly"),
        (2, "invariants"),
        (3, "checkConstraints"),
        (4, "changeDataFeed"),
        (4, "generatedColumns"),
        (5, "columnMapping"),
        (6, "identityColumns"),
    ];
    let version = protocol.min_writer_version();
    let implied = IMPLIED
        .iter()
        .filter(|(since, _)| version < 7 && *since <= version);
    writer.extend(implied.map(|(_, feature)| feature.to_string()));
    if protocol.min_reader_version() == 2 {
        reader.push("columnMapping".into());
    }
    writer.push(NTZ.into());
    reader.push(NTZ.into());
    let upgraded = serde_json::json!({
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": reader,
        "writerFeatures": writer,
    });
    serde_json::from_value(upgraded).ok()
}
