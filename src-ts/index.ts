// The whole public surface.
//
// To read on: client.ts, then handoff.ts, then src-rs/lib.rs.

// Before all else: on an older Node the rest fails to load, each part for a reason of its own.
import "./runtime.js";

export type { NativeVersion } from "./binding.js";
export type { BytesResult, SendBytesOptions } from "./client/send-bytes.js";
export {
  type ClientStats,
  connect,
  connectFrom,
  type IngestClient,
  type RecoveredSpool,
  type SpoolStats,
  type VersionInfo,
} from "./client.js";
export {
  type ConfigReport,
  type ConfigValue,
  type InspectConfigOptions,
  inspectConfig,
} from "./configuration.js";
export {
  type DeadLetterContent,
  type DeadLetterFile,
  type DeadLetterRejection,
  listDeadLetters,
  readDeadLetter,
  removeDeadLetter,
} from "./dead-letter.js";
export {
  type BytesSource,
  type CsvOptions,
  type DecodedBytes,
  type DecodeOptions,
  decodeBytes,
  type LineRefusalCode,
  type LineRejection,
} from "./decode.js";
export type { Delivery } from "./delivery.js";
export {
  type Emulator,
  type EmulatorColumn,
  type EmulatorConnectOptions,
  type EmulatorEvent,
  type EmulatorFault,
  type EmulatorOptions,
  type EmulatorSummary,
  type EmulatorTableSummary,
  startEmulator,
} from "./emulator.js";
export {
  AuthenticationError,
  BatchError,
  ClosedError,
  ConfigError,
  type ConfigIssue,
  ConnectionError,
  DeliveryError,
  DestinationError,
  ERROR_CODES,
  type ErrorCode,
  type ErrorFacts,
  type ErrorJson,
  HandoffError,
  IngestError,
  InputError,
  InternalError,
  NativeError,
  type RetryClass,
  SchemaError,
  SpoolError,
} from "./errors.js";
export { type ByteSource, type IpcBatchesOptions, ipcBatches } from "./inputs.js";
export type { ClientEvent, Profile, ProfileStage } from "./observation.js";
export type {
  BatchingOptions,
  ByteSize,
  CaptureOptions,
  CloseOptions,
  ConnectFromOptions,
  ConnectOptions,
  DeadLetterOptions,
  DeltaOptions,
  Duration,
  EventsOptions,
  FlightOptions,
  ForeignSchema,
  HandoffMode,
  HandoffOptions,
  HeadersOptions,
  HeadersProvider,
  HeadersRequest,
  InflightOptions,
  Logger,
  QuarantineOptions,
  ResultListeners,
  RetryAttempt,
  RetryOptions,
  RetryPredicate,
  SchemaInput,
  SendAllOptions,
  SendOptions,
  SpoolOptions,
  TelemetryContext,
  TelemetryHistogram,
  TelemetryMeter,
  TelemetryOptions,
  TelemetrySpan,
  TelemetryTracer,
  TlsOptions,
  WritableOptions,
  ZerobusOptions,
} from "./options.js";
export {
  type DeliveryStatus,
  type HandoffWay,
  type Position,
  type Rejection,
  type ResultFacts,
  type ResultJson,
  type ResultSummary,
  type SpooledResult,
  type SuccessfulResult,
  type Timings,
  TransmissionResult,
  type UnsuccessfulResult,
} from "./result.js";
export {
  inferSchema,
  type RowRefusalCode,
  type RowRejection,
  type RowsOptions,
  type RowsTable,
  tableFromRows,
} from "./rows.js";
export {
  type AnyColumn,
  type BytesValue,
  type ColumnPairs,
  type Columns,
  type ColumnsByName,
  type ColumnType,
  type DateValue,
  type DecimalValue,
  type DurationValue,
  type EntriesValue,
  type InstantValue,
  type IntegerValue,
  type IntervalParts,
  type IntervalValue,
  type ItemsValue,
  type Overrides,
  type RowOf,
  type RowSchema,
  type StandardColumns,
  type StandardOutput,
  type StandardSchema,
  type TemporalObject,
  type TimeUnitName,
  type TimeValue,
  t,
  type WallClockValue,
} from "./schema.js";
export type {
  BatchInput,
  BatchSource,
  ColumnsInput,
  ForeignBatch,
  ForeignTable,
  LibraryTable,
} from "./source.js";
