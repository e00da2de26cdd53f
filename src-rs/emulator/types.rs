//! The types of a table's columns: as SQL writes them, as Unity Catalog lists them, as Arrow and Delta
//! hold them.
//!
//! Invariants:
//! - What `text` writes, `parse` reads; what `json` writes, `from_json` reads, and so does Delta.
//! - `stored` is what the Delta destination makes a column of this type from.
//!
//! Which types a client may send for a column is `schema.rs`.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde_json::{Value, json};

/// A column, or a field of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Type,
    pub nullable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Boolean,
    Byte,
    Short,
    Integer,
    Long,
    Float,
    Double,
    String,
    Binary,
    Date,
    Timestamp,
    TimestampNtz,
    Decimal(u8, u8),
    /// Travels as its two binary parts; Delta stores these as a struct.
    Variant,
    Array(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Struct(Vec<Column>),
}

/// SQL's words, Unity Catalog's name, the name in Delta's JSON. The first word of a type is how it is
/// written back.
const PLAIN: [(&[&str], &str, &str, Type); 13] = [
    (&["boolean", "bool"], "BOOLEAN", "boolean", Type::Boolean),
    (&["tinyint", "byte"], "BYTE", "byte", Type::Byte),
    (&["smallint", "short"], "SHORT", "short", Type::Short),
    (&["int", "integer"], "INT", "integer", Type::Integer),
    (&["bigint", "long"], "LONG", "long", Type::Long),
    (&["float", "real"], "FLOAT", "float", Type::Float),
    (&["double"], "DOUBLE", "double", Type::Double),
    (&["string"], "STRING", "string", Type::String),
    (&["binary"], "BINARY", "binary", Type::Binary),
    (&["date"], "DATE", "date", Type::Date),
    (&["timestamp"], "TIMESTAMP", "timestamp", Type::Timestamp),
    (
        &["timestamp_ntz"],
        "TIMESTAMP_NTZ",
        "timestamp_ntz",
        Type::TimestampNtz,
    ),
    (&["variant"], "VARIANT", "variant", Type::Variant),
];

/// Deeper types are refused, so that no text can exhaust the stack.
const MAX_DEPTH: usize = 32;

impl Type {
    /// Reads a type as SQL writes it: `BIGINT`, `DECIMAL(10,2)`, `ARRAY<STRUCT<a: INT, b: STRING NOT NULL>>`.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Type, String> {
        let mut parser = Parser { text, rest: text };
        let kind = parser.kind(0)?;
        match parser.rest.trim_start() {
            "" => Ok(kind),
            rest => Err(format!("{text:?}: {rest:?} follows the type")),
        }
    }

    /// Unity Catalog's name of it.
    pub fn name(&self) -> &'static str {
        match self {
            Type::Decimal(..) => "DECIMAL",
            Type::Array(_) => "ARRAY",
            Type::Map(..) => "MAP",
            Type::Struct(_) => "STRUCT",
            plain => plain.words().1,
        }
    }

    /// As SQL writes it, in small letters.
    pub fn text(&self) -> String {
        match self {
            Type::Decimal(precision, scale) => format!("decimal({precision},{scale})"),
            Type::Array(item) => format!("array<{}>", item.text()),
            Type::Map(key, value) => format!("map<{},{}>", key.text(), value.text()),
            Type::Struct(fields) => {
                let mut text = String::from("struct<");
                for (index, field) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let _ = write!(text, "{comma}{}:{}", field.name, field.kind.text());
                }
                text + ">"
            }
            plain => plain.words().0[0].into(),
        }
    }

    /// As Delta's schema and Unity Catalog's `type_json` have it.
    pub fn json(&self) -> Value {
        match self {
            Type::Decimal(precision, scale) => json!(format!("decimal({precision},{scale})")),
            Type::Array(item) => json!({ "type": "array", "elementType": item.json(), "containsNull": true }),
            Type::Map(key, value) => json!({
                "type": "map", "keyType": key.json(), "valueType": value.json(), "valueContainsNull": true,
            }),
            Type::Struct(fields) => json!({
                "type": "struct", "fields": fields.iter().map(Column::json).collect::<Vec<_>>(),
            }),
            plain => json!(plain.words().2),
        }
    }

    /// The reverse of [`Type::json`].
    pub fn from_json(value: &Value) -> Option<Type> {
        if let Some(text) = value.as_str() {
            if text.starts_with("decimal") {
                return Type::parse(text).ok();
            }
            return PLAIN
                .iter()
                .find(|(_, _, name, _)| *name == text)
                .map(|(.., kind)| kind.clone());
        }
        let inner = |name: &str| Type::from_json(&value[name]).map(Box::new);
        match value["type"].as_str()? {
            "array" => Some(Type::Array(inner("elementType")?)),
            "map" => Some(Type::Map(inner("keyType")?, inner("valueType")?)),
            "struct" => {
                let fields = value["fields"].as_array()?.iter().map(Column::from_json);
                Some(Type::Struct(fields.collect::<Option<_>>()?))
            }
            _ => None,
        }
    }

    /// What is written into the Delta table.
    pub fn stored(&self) -> DataType {
        match self {
            Type::Boolean => DataType::Boolean,
            Type::Byte => DataType::Int8,
            Type::Short => DataType::Int16,
            Type::Integer => DataType::Int32,
            Type::Long => DataType::Int64,
            Type::Float => DataType::Float32,
            Type::Double => DataType::Float64,
            Type::String => DataType::LargeUtf8,
            Type::Binary => DataType::LargeBinary,
            Type::Date => DataType::Date32,
            Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Type::TimestampNtz => DataType::Timestamp(TimeUnit::Microsecond, None),
            // Checked where it is made: a scale is at most a precision is at most 38.
            Type::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale as i8),
            Type::Variant => DataType::Struct(Fields::from(vec![
                Field::new("metadata", DataType::LargeBinary, false),
                Field::new("value", DataType::LargeBinary, false),
            ])),
            Type::Array(item) => DataType::List(Arc::new(Field::new("item", item.stored(), true))),
            Type::Map(key, value) => {
                let entries = DataType::Struct(Fields::from(vec![
                    Field::new("keys", key.stored(), false),
                    Field::new("values", value.stored(), true),
                ]));
                DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
            }
            Type::Struct(fields) => DataType::Struct(fields.iter().map(Column::stored).collect()),
        }
    }

    /// The type of a column that is made for what a client sends; none for what the service does not take.
    pub fn of_arrow(sent: &DataType) -> Option<Type> {
        Some(match sent {
            DataType::Boolean => Type::Boolean,
            DataType::Int8 => Type::Byte,
            DataType::Int16 => Type::Short,
            DataType::Int32 => Type::Integer,
            DataType::Int64 => Type::Long,
            DataType::Float32 => Type::Float,
            DataType::Float64 => Type::Double,
            DataType::Utf8 | DataType::LargeUtf8 => Type::String,
            DataType::Binary | DataType::LargeBinary => Type::Binary,
            DataType::Date32 => Type::Date,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Type::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Type::TimestampNtz,
            DataType::List(item) => Type::Array(Box::new(Type::of_arrow(item.data_type())?)),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => Type::Map(
                    Box::new(Type::of_arrow(fields[0].data_type())?),
                    Box::new(Type::of_arrow(fields[1].data_type())?),
                ),
                _ => return None,
            },
            DataType::Struct(fields) => {
                let fields = fields.iter().map(|field| Column::of_arrow(field));
                Type::Struct(fields.collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    fn words(&self) -> (&'static [&'static str], &'static str, &'static str) {
        let found = PLAIN.iter().find(|(.., kind)| kind == self);
        found.map_or((&[""], "", ""), |(words, name, json, _)| (words, name, json))
    }
}

impl Column {
    pub fn json(&self) -> Value {
        json!({ "name": self.name, "type": self.kind.json(), "nullable": self.nullable, "metadata": {} })
    }

    pub fn from_json(value: &Value) -> Option<Column> {
        Some(Column {
            name: value["name"].as_str()?.to_string(),
            kind: Type::from_json(&value["type"])?,
            nullable: value["nullable"].as_bool().unwrap_or(true),
        })
    }

    pub fn of_arrow(field: &Field) -> Option<Column> {
        Some(Column {
            name: field.name().clone(),
            kind: Type::of_arrow(field.data_type())?,
            nullable: field.is_nullable(),
        })
    }

    fn stored(&self) -> Field {
        Field::new(&self.name, self.kind.stored(), self.nullable)
    }
}

/// The schema that a table of these columns is written with.
pub fn stored(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(Column::stored).collect::<Vec<_>>(),
    ))
}

struct Parser<'t> {
    text: &'t str,
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn kind(&mut self, depth: usize) -> Result<Type, String> {
        if depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} deep"));
        }
        let word = self.word()?.to_ascii_lowercase();
        match word.as_str() {
            "decimal" | "numeric" | "dec" => self.decimal(),
            "array" => {
                self.expect("<")?;
                let item = self.kind(depth + 1)?;
                self.expect(">")?;
                Ok(Type::Array(Box::new(item)))
            }
            "map" => {
                self.expect("<")?;
                let key = self.kind(depth + 1)?;
                self.expect(",")?;
                let value = self.kind(depth + 1)?;
                self.expect(">")?;
                Ok(Type::Map(Box::new(key), Box::new(value)))
            }
            "struct" => self.fields(depth),
            plain => match PLAIN.iter().find(|(words, ..)| words.contains(&plain)) {
                Some((.., kind)) => Ok(kind.clone()),
                None => Err(format!("{:?}: {word:?} is no type of a table", self.text)),
            },
        }
    }

    fn decimal(&mut self) -> Result<Type, String> {
        if !self.take("(") {
            return Ok(Type::Decimal(10, 0));
        }
        let precision = self.number()?;
        let scale = if self.take(",") { self.number()? } else { 0 };
        self.expect(")")?;
        if !(1..=38).contains(&precision) || scale > precision {
            let text = self.text;
            return Err(format!(
                "{text:?}: a decimal has 1 to 38 digits, and no more after the point"
            ));
        }
        Ok(Type::Decimal(precision, scale))
    }

    fn fields(&mut self, depth: usize) -> Result<Type, String> {
        self.expect("<")?;
        let mut fields = Vec::new();
        loop {
            let name = self.word()?.to_string();
            self.take(":");
            let kind = self.kind(depth + 1)?;
            let nullable = match self.keyword("not") {
                true if self.keyword("null") => false,
                true => return Err(format!("{:?}: NULL should follow NOT", self.text)),
                false => true,
            };
            fields.push(Column { name, kind, nullable });
            if !self.take(",") {
                break;
            }
        }
        self.expect(">")?;
        Ok(Type::Struct(fields))
    }

    fn word(&mut self) -> Result<&'t str, String> {
        self.rest = self.rest.trim_start();
        if let Some(quoted) = self.rest.strip_prefix('`')
            && let Some((name, rest)) = quoted.split_once('`')
        {
            self.rest = rest;
            return Ok(name);
        }
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        let end = self
            .rest
            .find(|letter| !is_word(letter))
            .unwrap_or(self.rest.len());
        if end == 0 {
            return Err(format!(
                "{:?}: a word is missing before {:?}",
                self.text, self.rest
            ));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word)
    }

    fn number(&mut self) -> Result<u8, String> {
        let word = self.word()?;
        word.parse()
            .map_err(|_| format!("{:?}: {word:?} is no number of digits", self.text))
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let before = self.rest;
        if self.word().is_ok_and(|word| word.eq_ignore_ascii_case(keyword)) {
            return true;
        }
        self.rest = before;
        false
    }

    fn take(&mut self, sign: &str) -> bool {
        match self.rest.trim_start().strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) {
            return Ok(());
        }
        Err(format!(
            "{:?}: {sign:?} is missing before {:?}",
            self.text, self.rest
        ))
    }
}
