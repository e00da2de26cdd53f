//! Which tables this writer can append to without breaking a promise of theirs.
//!
//! A feature that is merely listed and not in use asks nothing of an append; one that is in use, or
//! that obliges every writer once listed, is refused by its name. deltalake-core's own check goes by
//! the list alone, and without datafusion it would refuse every table that Databricks makes.

use deltalake_core::kernel::{DataType, Metadata, Protocol, StructField, StructType, contains_timestampntz};

use super::table::Table;
use crate::error::{Code, Error, Result};

/// # Errors
/// `UNSUPPORTED` naming every feature that stands in the way.
pub fn check(table: &Table) -> Result<()> {
    let found = refused(table.protocol(), table.metadata(), table.schema());
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Code::Unsupported,
        format!(
            "the table uses what this writer cannot honour: {}",
            found.join(", ")
        ),
    )
    .during("open"))
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
        ("delta.identity.start", "identityColumns"),
    ] {
        if let Some(column) = first_with(schema, key) {
            found.push(format!("{feature} (column {column})"));
        }
    }
    // Versions above ours, and lists: a word that is unknown may mean anything.
    if protocol.min_reader_version() > 3 || protocol.min_writer_version() > 7 {
        found.push(format!(
            "protocol {}/{}",
            protocol.min_reader_version(),
            protocol.min_writer_version()
        ));
    }
    let listed = protocol
        .writer_features()
        .into_iter()
        .chain(protocol.reader_features())
        .flatten();
    for feature in listed {
        let name = feature.to_string();
        if !harmless(&name) && !found.iter().any(|known| known.starts_with(&name)) {
            found.push(name);
        }
    }
    found
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

fn first_with(schema: &StructType, key: &str) -> Option<String> {
    schema.fields().find_map(|field| field_with(field, key))
}

fn field_with(field: &StructField, key: &str) -> Option<String> {
    if field.metadata.contains_key(key) {
        return Some(field.name.clone());
    }
    let inner = match &field.data_type {
        DataType::Struct(fields) => first_with(fields, key),
        DataType::Array(array) => field_with(
            &StructField::nullable("element", array.element_type().clone()),
            key,
        ),
        DataType::Map(map) => field_with(&StructField::nullable("value", map.value_type().clone()), key),
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
    if !contains_timestampntz(schema.fields()) || writer.iter().any(|feature| feature == NTZ) {
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
