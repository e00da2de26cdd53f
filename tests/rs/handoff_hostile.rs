//! IPC bytes from anywhere. Each input gives batches or an error; nothing else.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use arrow::ipc::convert::IpcSchemaEncoder;
use arrow::ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions, StreamWriter};
use arrow::ipc::{
    self, BodyCompressionBuilder, CompressionType, Endianness, FieldBuilder, FieldNode, MessageBuilder,
    MessageHeader, MetadataVersion, RecordBatchBuilder, SchemaBuilder,
};
use arrow_ingest::error::{Code, Error};
use arrow_ingest::handoff::{
    Foreign, HandoffBatch, ImportedBatches, IpcBytes, PayloadUse, Pins, Pool, decode_schema,
};

use crate::handoff_random::MODES;
use crate::handoff_types::{Seed, batch, leaves, nested, schema_of};

fn import(bytes: &[u8], rows: Option<usize>) -> Result<ImportedBatches, Error> {
    let bytes = Foreign::from_buffer(bytes.to_vec().into());
    HandoffBatch::Ipc(IpcBytes { bytes, rows }).import(PayloadUse::Computed, &Pool::new(1 << 20))
}

fn stream(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn file(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn plain() -> IpcWriteOptions {
    IpcWriteOptions::default()
}

fn compressed(codec: CompressionType) -> IpcWriteOptions {
    plain().try_with_compression(Some(codec)).unwrap()
}

fn samples() -> Vec<RecordBatch> {
    // Not the nested dictionary, whose replacement the writer of files refuses.
    let kinds = leaves().into_iter().take(37).chain(nested(&DataType::Utf8));
    let schema = schema_of(kinds.filter(|kind| *kind != DataType::FixedSizeBinary(0)));
    let given = batch(&schema, 60, &mut Seed(21));
    vec![given.slice(0, 17), given.slice(17, 43)]
}

/// Text and numbers of few values, large enough that compressing them is worth it.
fn compressible() -> Vec<RecordBatch> {
    let text: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..8_000).map(|n| format!("value {}", n % 7)),
    ));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..8_000).map(|n| n % 5)));
    vec![RecordBatch::try_from_iter([("text", text), ("numbers", numbers)]).unwrap()]
}

#[test]
fn streams_and_files_arrive_whole() {
    let given = samples();
    for bytes in [stream(&given, plain()), file(&given)] {
        for payload in MODES {
            let pins = Pins::new(1 << 30, Box::new(|_, _| {}));
            let pin = pins.pin(1, vec![(bytes.as_ptr() as usize, bytes.len())]).unwrap();
            // SAFETY: the bytes outlive the import, after which the pin is gone.
            let foreign = unsafe { Foreign::pinned(bytes.as_ptr(), bytes.len(), pin) };
            let handoff_batch = HandoffBatch::Ipc(IpcBytes {
                bytes: foreign,
                rows: Some(60),
            });
            assert_eq!(
                (handoff_batch.bytes(), handoff_batch.is_pinned()),
                (bytes.len(), true)
            );
            let imported = handoff_batch.import(payload, &Pool::new(0)).unwrap();
            assert_eq!(pins.count(), 0, "IPC bytes are copied, and the pin is let go");
            assert_eq!(imported.batches, given);
            assert_eq!(imported.bytes, bytes.len());
        }
    }
}

#[test]
fn compressed_streams_arrive_whole() {
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        for given in [samples(), compressible()] {
            let bytes = stream(&given, compressed(codec));
            let imported = import(&bytes, None).unwrap();
            assert_eq!(imported.batches, given);
            assert!(imported.bytes > bytes.len());
        }
    }
}

#[test]
fn the_fourth_version_of_the_metadata_is_read_too() {
    let given = samples();
    for legacy in [false, true] {
        let options = IpcWriteOptions::try_new(8, legacy, MetadataVersion::V4).unwrap();
        let kinds: Vec<usize> = (0..given[0].num_columns())
            .filter(|index| !matches!(given[0].column(*index).data_type(), DataType::Union(..)))
            .collect();
        let given: Vec<_> = given.iter().map(|batch| batch.project(&kinds).unwrap()).collect();
        assert_eq!(import(&stream(&given, options), Some(60)).unwrap().batches, given);
    }
}

/// the types that only bytes can carry.
#[test]
fn run_ends_and_list_views_cross_as_bytes() {
    let runs: RunArray<Int32Type> = [Some("a"), Some("a"), None, Some("b")].into_iter().collect();
    let views: ListViewArray = ListArray::from_iter_primitive::<Int8Type, _, _>([
        Some(vec![Some(1)]),
        None,
        Some(vec![]),
        Some(vec![None]),
    ])
    .into();
    let wide = Decimal256Array::from_iter_values((1..5).map(i256::from_i128));
    let given = RecordBatch::try_from_iter_with_nullable([
        ("runs", Arc::new(runs) as ArrayRef, true),
        ("views", Arc::new(views) as ArrayRef, true),
        ("wide", Arc::new(wide) as ArrayRef, true),
    ])
    .unwrap();
    assert_eq!(
        import(&stream(std::slice::from_ref(&given), plain()), Some(4))
            .unwrap()
            .batches,
        [given]
    );
}

/// dictionaries that grow or are replaced between batches.
#[test]
fn dictionaries_change_between_batches() {
    let column = |values: &[&str]| {
        let values: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        let keys = Int32Array::from_iter((0..values.len() as i32).rev().map(Some));
        RecordBatch::try_from_iter([("d", Arc::new(DictionaryArray::new(keys, values)) as ArrayRef)]).unwrap()
    };
    for (second, handling) in [
        (column(&["a", "b", "c"]), DictionaryHandling::Delta),
        (column(&["x", "y", "z"]), DictionaryHandling::Resend),
    ] {
        let given = [column(&["a", "b"]), second];
        let bytes = stream(&given, plain().with_dictionary_handling(handling));
        let imported = import(&bytes, Some(5)).unwrap();
        assert_eq!(imported.batches, given);
    }
}

#[test]
fn a_count_that_differs_is_refused() {
    let bytes = stream(&samples(), plain());
    let error = import(&bytes, Some(59)).unwrap_err();
    assert_eq!(error.code(), Code::BatchInvalid);
    assert!(
        error.message().contains("59") && error.message().contains("60"),
        "{error}"
    );
}

fn message(error: Result<ImportedBatches, Error>) -> String {
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::BatchInvalid, "{error}");
    error.to_string()
}

#[test]
fn what_is_no_ipc_is_refused_in_words() {
    let given = samples();
    let whole = stream(&given, plain());
    assert!(message(import(&[], None)).contains("no schema"));
    assert!(message(import(&[0; 8], None)).contains("no schema"));
    assert!(message(import(&whole[..whole.len() / 2], None)).contains("RecordBatchReader.from"));
    for (bytes, word) in [
        (b"PAR1 or whatever else".as_slice(), "sendBytes"),
        (b"FEA1 or whatever else", "version 1"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gunzipSync"),
        (b"\x28\xb5\x2f\xfd\0\0\0\0", "zstdDecompressSync"),
        (b"Obj\x01\x04\x14avro.codec", "Avro"),
        (b"id,name\r\n1,one\r\n", "sendBytes"),
        // The 64th byte is within a character.
        ("xé".repeat(40).as_bytes(), "sendBytes"),
    ] {
        let refused = message(import(bytes, None));
        assert!(
            refused.contains(word) && refused.contains("no Arrow IPC bytes but"),
            "{refused}"
        );
    }
    assert!(!message(import(b"\0\0\0\x7f or whatever else", None)).contains("text"));
    assert!(message(import(b"\x80\x80\x80\x80 or whatever else", None)).contains("no IPC bytes"));
    assert!(message(import(&[whole.clone(), whole.clone()].concat(), None)).contains("beyond its end"));
    assert!(message(import(&[&whole[..whole.len() - 8], &whole].concat(), None)).contains("second schema"));
    let mut padded = whole.clone();
    padded.extend([0; 24]);
    assert_eq!(import(&padded, Some(60)).unwrap().batches, given);
    // Without the marker of the end.
    assert_eq!(
        import(&whole[..whole.len() - 8], Some(60)).unwrap().batches,
        given
    );

    let file = file(&given);
    assert!(message(import(&file[..file.len() - 1], None)).contains("footer is missing"));
    assert!(message(import(b"ARROW1\0\0ARROW1", None)).contains("longer than"));
    assert!(message(import(b"ARROW1", None)).contains("footer is missing"));
    let mut long = file.clone();
    let length = long.len();
    long[length - 10..length - 6].copy_from_slice(&i32::MAX.to_le_bytes());
    assert!(message(import(&long, None)).contains("longer than"));
    long[length - 10..length - 6].copy_from_slice(&0i32.to_le_bytes());
    assert!(message(import(&long, None)).contains("footer cannot be read"));
}

/// Every cut of a stream, densely at the start and at its end, and every cut of a file.
#[test]
fn cut_off_bytes_are_refused_or_lose_whole_batches_only() {
    let given = samples();
    let bytes = stream(&given, plain());
    let mut whole = 0;
    for length in
        (0..bytes.len()).filter(|length| *length < 700 || length % 37 == 0 || length + 700 > bytes.len())
    {
        match import(&bytes[..length], None) {
            Ok(imported) => {
                assert!(given.starts_with(&imported.batches));
                whole += 1;
            }
            Err(error) => assert_eq!(error.code(), Code::BatchInvalid, "{error}"),
        }
        // Whoever knows how many rows there are loses nothing at all.
        assert!(import(&bytes[..length], Some(60)).is_err() || length + 8 >= bytes.len());
    }
    assert!(whole >= 1);
    let bytes = file(&given);
    for length in (0..bytes.len()).step_by(61) {
        import(&bytes[..length], None).unwrap_err();
    }
}

/// Bits flipped and numbers put in, anywhere: an error, or batches that are sound.
#[test]
fn damaged_bytes_give_an_error_or_sound_batches() {
    let given = samples();
    let mut seed = Seed(31);
    let inputs = [
        stream(&given, plain()),
        file(&given),
        stream(&compressible(), compressed(CompressionType::LZ4_FRAME)),
        stream(&compressible(), compressed(CompressionType::ZSTD)),
        stream(&given, compressed(CompressionType::ZSTD)),
    ];
    let (mut sound, mut refused) = (0, 0);
    for input in &inputs {
        for round in 0..500 {
            let mut bytes = input.clone();
            // Metadata is at the ends; that is where damage does most.
            let place = match round % 3 {
                0 => seed.below(bytes.len()),
                1 => seed.below(bytes.len().min(6_000)),
                _ => bytes.len() - 1 - seed.below(bytes.len().min(6_000)),
            };
            match round % 4 {
                0 | 1 => bytes[place] ^= 1 << seed.below(8),
                2 => bytes[place] = seed.next() as u8,
                _ => {
                    let numbers = [-1i64, i64::MAX, i64::MIN, 1 << 40, 1 << 31, seed.next() as i64];
                    let number = numbers[seed.below(numbers.len())].to_le_bytes();
                    let place = (place & !7).min(bytes.len() - 8);
                    bytes[place..place + 8].copy_from_slice(&number);
                }
            }
            match import(&bytes, None) {
                Ok(imported) => {
                    for column in imported.batches.iter().flat_map(|batch| batch.columns()) {
                        column.to_data().validate_full().unwrap();
                    }
                    sound += 1;
                }
                Err(error) => {
                    assert_eq!(error.code(), Code::BatchInvalid, "{error}");
                    refused += 1;
                }
            }
            let _ = decode_schema(&bytes);
        }
    }
    assert!(sound > 200 && refused > 200, "{sound} sound, {refused} refused");
}

/// The eight bytes before the compressed data say how much to allocate.
#[test]
fn compressed_buffers_cannot_claim_what_they_cannot_hold() {
    let given = compressible();
    for (codec, magic) in [
        (CompressionType::LZ4_FRAME, [0x04u8, 0x22, 0x4D, 0x18]),
        (CompressionType::ZSTD, [0x28, 0xB5, 0x2F, 0xFD]),
    ] {
        let whole = stream(&given, compressed(codec));
        let places: Vec<usize> = (8..whole.len() - 4)
            .filter(|at| whole[*at..*at + 4] == magic)
            .collect();
        assert!(places.len() >= 2);
        for at in places {
            for (claim, reason) in [
                (i64::MAX, "cannot be"),
                (-2, "claims to hold"),
                (1 << 36, "cannot be"),
            ] {
                let mut bytes = whole.clone();
                bytes[at - 8..at].copy_from_slice(&claim.to_le_bytes());
                let message = message(import(&bytes, None));
                assert!(message.contains(reason), "{message}");
            }
            let mut bytes = whole.clone();
            bytes[at - 8..at].copy_from_slice(&3i64.to_le_bytes());
            message(import(&bytes, None));
            let mut bytes = whole.clone();
            bytes[at] = 0x02;
            message(import(&bytes, None));
        }
    }
}

/// Bombs: what they expand to is counted before anything is decoded.
#[test]
fn what_expands_to_more_than_the_limit_is_refused() {
    let stored = [8i64.to_le_bytes().to_vec(), vec![0; 200_000]].concat();
    let zstd = [(5i64 << 30).to_le_bytes().to_vec(), stored].concat();
    // A frame of blocks that expand to 4 MiB each, whatever its claim.
    let mut lz4 = 3i64.to_le_bytes().to_vec();
    lz4.extend([0x04, 0x22, 0x4D, 0x18, 0x78, 0x70]);
    lz4.extend([0; 9]);
    for _ in 0..1_100 {
        lz4.extend(20_000u32.to_le_bytes());
        lz4.extend(vec![0; 20_004]);
    }
    lz4.extend([0; 4]);
    for (codec, body) in [(CompressionType::ZSTD, zstd), (CompressionType::LZ4_FRAME, lz4)] {
        let schema = schema_message(DataType::Int32);
        let batch = crafted(|message| {
            message.batch = Some(2);
            message.nodes = vec![FieldNode::new(2, 0)];
            message.buffers = vec![ipc::Buffer::new(0, 0), ipc::Buffer::new(0, body.len() as i64)];
            message.codec = Some(codec);
            message.body = body.clone();
        });
        let message = message(import(&[schema, batch].concat(), None));
        assert!(message.contains("more than 4294967296"), "{message}");
    }
}

/// A stream that ends after its schema.
fn schema_message(kind: DataType) -> Vec<u8> {
    let bytes = StreamWriter::try_new(Vec::new(), &schema_of([kind]))
        .unwrap()
        .into_inner()
        .unwrap();
    bytes[..bytes.len() - 8].to_vec()
}

#[test]
fn schemas_are_decoded() {
    let schema = samples()[0].schema();
    let writer = |schema: &Schema| {
        StreamWriter::try_new(Vec::new(), schema)
            .unwrap()
            .into_inner()
            .unwrap()
    };
    assert_eq!(decode_schema(&writer(&schema)).unwrap(), schema);
    let error = decode_schema(&stream(&samples(), plain())).unwrap_err();
    assert!(error.message().contains("more than a schema"), "{error}");
    let negative = decode_schema(&writer(&schema_of([DataType::FixedSizeBinary(-4)]))).unwrap_err();
    assert_eq!(
        (negative.code(), negative.field()),
        (Code::BatchInvalid, Some("c0"))
    );
    for length in 0..200 {
        assert!(decode_schema(&vec![0xFF; length]).is_err());
    }
}

/// nothing catches a stack that overflows, so nesting is bounded before anything recurses.
#[test]
fn deep_schemas_are_refused_on_a_small_stack() {
    let on_a_stack_of = |bytes: usize, work: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().stack_size(bytes);
        thread.spawn(work).unwrap().join().unwrap();
    };
    for depth in [5, 40, 100, 1_000] {
        let nested = move || {
            let deeper = |kind, _| DataType::List(Arc::new(Field::new("f", kind, true)));
            schema_of([(0..depth).fold(DataType::Int8, deeper)])
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        // Writing such a schema takes a large stack, even where refusing it does not.
        let write = move || {
            let writer = StreamWriter::try_new(Vec::new(), &nested()).unwrap();
            sender.send(writer.into_inner().unwrap()).unwrap();
        };
        on_a_stack_of(256 << 20, Box::new(write));
        let bytes = receiver.recv().unwrap();
        on_a_stack_of(
            1 << 20,
            Box::new(move || match decode_schema(&bytes) {
                Ok(schema) => assert!(depth < 64 && schema.fields().len() == 1),
                Err(error) => assert!(depth > 64 && error.message().contains("nested deeper"), "{error}"),
            }),
        );
    }
}

/// A message built by hand: arrow-rs writes none that is wrong.
fn crafted(build: impl FnOnce(&mut Message)) -> Vec<u8> {
    // The builder's crate is no dependency of ours; arrow-rs hands one out.
    let mut builder = IpcSchemaEncoder::new().schema_to_fb(&Schema::empty());
    builder.reset();
    let mut message = Message::default();
    build(&mut message);
    let body_length = message.body.len() as i64;
    let (kind, header) = match message.batch {
        None => {
            let name = builder.create_string(&"n".repeat(message.name));
            let mut field = FieldBuilder::new(&mut builder);
            field.add_name(name);
            let field = field.finish();
            let fields = builder.create_vector(&vec![field; message.copies]);
            let mut schema = SchemaBuilder::new(&mut builder);
            schema.add_endianness(message.endianness);
            if !message.no_fields {
                schema.add_fields(fields);
            }
            (MessageHeader::Schema, schema.finish().as_union_value())
        }
        Some(length) => {
            let nodes = builder.create_vector(&message.nodes);
            let buffers = builder.create_vector(&message.buffers);
            let variadic = builder.create_vector(&message.variadic);
            let compression = message.codec.map(|codec| {
                let mut compression = BodyCompressionBuilder::new(&mut builder);
                compression.add_codec(codec);
                compression.finish()
            });
            let mut batch = RecordBatchBuilder::new(&mut builder);
            if let Some(compression) = compression {
                batch.add_compression(compression);
            }
            batch.add_length(length);
            batch.add_nodes(nodes);
            batch.add_buffers(buffers);
            batch.add_variadicBufferCounts(variadic);
            (MessageHeader::RecordBatch, batch.finish().as_union_value())
        }
    };
    let mut root = MessageBuilder::new(&mut builder);
    root.add_version(message.version);
    if !message.empty {
        root.add_header_type(kind);
        root.add_header(header);
    }
    root.add_bodyLength(message.body_length.unwrap_or(body_length));
    let root = root.finish();
    builder.finish(root, None);
    let metadata = builder.finished_data();
    let mut bytes = vec![0xFF; 4];
    bytes.extend((metadata.len() as i32).to_le_bytes());
    bytes.extend(metadata);
    bytes.extend(message.body);
    bytes
}

struct Message {
    version: MetadataVersion,
    endianness: Endianness,
    no_fields: bool,
    /// The length of the name of the field, and how often it is named.
    name: usize,
    copies: usize,
    empty: bool,
    codec: Option<CompressionType>,
    body_length: Option<i64>,
    /// A record batch of this length; a schema if `None`.
    batch: Option<i64>,
    nodes: Vec<FieldNode>,
    buffers: Vec<ipc::Buffer>,
    variadic: Vec<i64>,
    body: Vec<u8>,
}

impl Default for Message {
    fn default() -> Self {
        Message {
            version: MetadataVersion::V5,
            endianness: Endianness::Little,
            no_fields: false,
            name: 1,
            copies: 1,
            empty: false,
            codec: None,
            body_length: None,
            batch: None,
            nodes: Vec::new(),
            buffers: Vec::new(),
            variadic: Vec::new(),
            body: Vec::new(),
        }
    }
}

#[test]
fn big_endian_bytes_are_refused_before_decoding() {
    let bytes = crafted(|message| message.endianness = Endianness::Big);
    assert!(
        decode_schema(&bytes)
            .unwrap_err()
            .message()
            .contains("big-endian")
    );
    assert!(message(import(&bytes, None)).contains("big-endian"));
}

#[test]
fn messages_that_lie() {
    let after = |kind: DataType, build: &dyn Fn(&mut Message)| {
        let batch = crafted(|message| {
            message.batch = Some(2);
            message.nodes = vec![FieldNode::new(2, 0)];
            message.buffers = vec![ipc::Buffer::new(0, 0), ipc::Buffer::new(0, 8)];
            message.body = vec![0; 8];
            build(message);
        });
        import(&[schema_message(kind), batch].concat(), None)
    };
    let numbers = |build: &dyn Fn(&mut Message)| after(DataType::Int32, build);
    assert_eq!(numbers(&|_| {}).unwrap().batches[0].num_rows(), 2);
    for length in [-1, i64::MIN, i64::MAX, 1 << 32] {
        assert!(message(numbers(&|m| m.batch = Some(length))).contains("a length is"));
        assert!(message(numbers(&|m| m.nodes = vec![FieldNode::new(length, 0)])).contains("a length is"));
        assert!(message(numbers(&|m| m.nodes = vec![FieldNode::new(2, length)])).contains("a length is"));
        assert!(message(numbers(&|m| m.variadic = vec![length])).contains("data buffers"));
        assert!(message(numbers(&|m| m.buffers[1] = ipc::Buffer::new(length, 8))).contains("in a body of 8"));
        assert!(message(numbers(&|m| m.buffers[1] = ipc::Buffer::new(0, length))).contains("in a body of 8"));
        assert!(!message(numbers(&|m| m.body_length = Some(length))).is_empty());
    }
    message(numbers(&|m| m.nodes = vec![FieldNode::new(3, 0)]));
    message(numbers(&|m| m.nodes.clear()));
    message(numbers(&|m| m.buffers.truncate(1)));
    message(numbers(&|m| m.variadic = vec![1]));
    assert!(message(numbers(&|m| m.buffers[0] = ipc::Buffer::new(0, 8))).contains("bytes together"));
    assert!(message(numbers(&|m| m.version = MetadataVersion::V3)).contains("version V3"));
    assert!(message(numbers(&|m| m.empty = true)).contains("no part of a table"));
    // Rows without memory: what arrow-rs allocates for them is bounded all the same.
    let nulls = after(DataType::Null, &|m| {
        m.batch = Some(u32::MAX.into());
        m.nodes = vec![FieldNode::new(u32::MAX.into(), u32::MAX.into())];
    });
    assert_eq!(nulls.unwrap().batches[0].num_rows(), u32::MAX as usize);

    let alone = crafted(|m| m.batch = Some(0));
    assert!(message(import(&alone, None)).contains("no schema"));
    assert!(
        decode_schema(&crafted(|m| m.no_fields = true))
            .unwrap_err()
            .message()
            .contains("no list of fields")
    );
    // One field, named over and over, is decoded as often.
    let many = crafted(|m| (m.name, m.copies) = (1 << 20, 100));
    assert!(many.len() < 2 << 20);
    assert!(
        decode_schema(&many)
            .unwrap_err()
            .message()
            .contains("decodes to more than")
    );
    // A field without a type makes arrow-rs panic.
    assert!(
        decode_schema(&crafted(|_| {}))
            .unwrap_err()
            .message()
            .contains("cannot be decoded")
    );
}

/// As where columns cross as buffers: the column is named, and of plain text the row.
#[test]
fn a_column_that_cannot_be_decoded_is_named() {
    const NEEDLE: &str = "a needle that is long enough";
    let rows = ["one", "", NEEDLE, "four"];
    let numbers = || Arc::new(Int64Array::from_iter_values(0..4)) as ArrayRef;
    let mut lists = ListBuilder::new(StringBuilder::new());
    rows.iter().for_each(|row| lists.append_value([Some(*row)]));
    let texts: [(ArrayRef, Option<u64>); 4] = [
        (Arc::new(StringArray::from(rows.to_vec())), Some(2)),
        (Arc::new(LargeStringArray::from(rows.to_vec())), Some(2)),
        (Arc::new(StringViewArray::from(rows.to_vec())), Some(2)),
        (Arc::new(lists.finish()), None),
    ];
    for (text, row) in texts {
        for place in 0..5 {
            let mut columns: Vec<(String, ArrayRef)> = (0..4).map(|n| (format!("n{n}"), numbers())).collect();
            columns.insert(place, ("text".into(), Arc::clone(&text)));
            let mut bytes = stream(&[RecordBatch::try_from_iter(columns).unwrap()], plain());
            let at = bytes
                .windows(NEEDLE.len())
                .rposition(|some| some == NEEDLE.as_bytes())
                .unwrap();
            bytes[at + 20] = 0xFF;
            let error = import(&bytes, None).unwrap_err();
            assert_eq!(
                (error.code(), error.field(), error.row()),
                (Code::BatchInvalid, Some("text"), row),
                "{error}"
            );
            assert!(
                row.is_none() || error.message().contains("it is not UTF-8"),
                "{error}"
            );
            assert!(!error.causes().is_empty());
        }
    }
    // What is wrong with no column in particular names none.
    let lie = message(import(&crafted(|m| m.batch = Some(2)), None));
    assert!(!lie.contains("column"), "{lie}");
}

/// The footer of a file says where its messages are; what it says may be wrong.
#[test]
fn footers_that_lie() {
    let given = samples();
    let whole = file(&given);
    let length = i32::from_le_bytes(whole[whole.len() - 10..whole.len() - 6].try_into().unwrap()) as usize;
    let footer = whole.len() - 10 - length..whole.len() - 10;
    // Each eight bytes of the footer in turn, blocks and offsets among them.
    let mut refused = 0;
    for place in footer.step_by(8).filter(|place| place + 18 < whole.len()) {
        for number in [-1i64, 1 << 50, 8, i64::MAX] {
            let mut bytes = whole.clone();
            bytes[place..place + 8].copy_from_slice(&number.to_le_bytes());
            match import(&bytes, Some(60)) {
                Ok(imported) => assert_eq!(imported.batches.len(), 2),
                Err(error) => {
                    assert_eq!(error.code(), Code::BatchInvalid);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 20, "{refused}");
}
