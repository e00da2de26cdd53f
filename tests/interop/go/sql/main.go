// A Flight SQL server over a SQLite file, made of arrow-go's flightsql package and its ingest hook.
// Prints its port, and writes what it was asked to do into `-log`, one JSON object per line.
//
// The modes mean what FlightSql.proto says of them; nothing here was written with our client in mind.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"modernc.org/sqlite"
)

type server struct {
	flightsql.BaseServer
	database     *sql.DB
	mutex        sync.Mutex
	log          *json.Encoder
	transactions map[string]*sql.Tx // nil where the server is to have none
	begun        int
}

// Event is a line of the log.
type Event struct {
	Action      string            `json:"action"`
	Table       string            `json:"table,omitempty"`
	Catalog     string            `json:"catalog,omitempty"`
	Schema      string            `json:"schema,omitempty"`
	IfNotExist  string            `json:"ifNotExist,omitempty"`
	IfExists    string            `json:"ifExists,omitempty"`
	Temporary   bool              `json:"temporary"`
	Transaction string            `json:"transaction,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	Rows        int64             `json:"rows"`
	Error       string            `json:"error,omitempty"`
}

func (s *server) write(event Event) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.log.Encode(event); err != nil {
		panic(err)
	}
}

func (s *server) BeginTransaction(context.Context, flightsql.ActionBeginTransactionRequest) ([]byte, error) {
	if s.transactions == nil {
		return nil, status.Error(codes.Unimplemented, "no transactions here")
	}
	// Not the call's own context: the transaction lives on when the call is over.
	transaction, err := s.database.BeginTx(context.Background(), nil)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	s.mutex.Lock()
	s.begun++
	id := strconv.Itoa(s.begun)
	s.transactions[id] = transaction
	s.mutex.Unlock()
	s.write(Event{Action: "begin", Transaction: id})
	return []byte(id), nil
}

func (s *server) transaction(id []byte, ends bool) (*sql.Tx, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, ok := s.transactions[string(id)]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no transaction %q", id)
	}
	if ends {
		delete(s.transactions, string(id))
	}
	return found, nil
}

func (s *server) EndTransaction(_ context.Context, request flightsql.ActionEndTransactionRequest) error {
	id := request.GetTransactionId()
	transaction, err := s.transaction(id, true)
	if err != nil {
		return err
	}
	if request.GetAction() == flightsql.EndTransactionCommit {
		s.write(Event{Action: "commit", Transaction: string(id)})
		err = transaction.Commit()
	} else {
		s.write(Event{Action: "rollback", Transaction: string(id)})
		err = transaction.Rollback()
	}
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}

func (s *server) DoPutCommandStatementIngest(ctx context.Context, command flightsql.StatementIngest, reader flight.MessageReader) (int64, error) {
	options := command.GetTableDefinitionOptions()
	event := Event{
		Action:      "ingest",
		Table:       command.GetTable(),
		Catalog:     command.GetCatalog(),
		Schema:      command.GetSchema(),
		IfNotExist:  strings.TrimPrefix(options.GetIfNotExist().String(), "TABLE_NOT_EXIST_OPTION_"),
		IfExists:    strings.TrimPrefix(options.GetIfExists().String(), "TABLE_EXISTS_OPTION_"),
		Temporary:   command.GetTemporary(),
		Transaction: string(command.GetTransactionId()),
		Options:     command.GetOptions(),
	}
	rows, err := s.ingest(ctx, command, options, reader)
	event.Rows = rows
	if err != nil {
		event.Error = err.Error()
	}
	s.write(event)
	return rows, err
}

// What tables are looked for with, and rows written with: a transaction.
func (s *server) ingest(ctx context.Context, command flightsql.StatementIngest, options *flightsql.TableDefinitionOptions, reader flight.MessageReader) (int64, error) {
	if id := command.GetTransactionId(); len(id) > 0 {
		transaction, err := s.transaction(id, false)
		if err != nil {
			return 0, err
		}
		return insert(ctx, transaction, command, options, reader)
	}
	transaction, err := s.database.BeginTx(ctx, nil)
	if err != nil {
		return 0, status.Error(codes.Unavailable, err.Error())
	}
	rows, err := insert(ctx, transaction, command, options, reader)
	if err != nil {
		_ = transaction.Rollback()
		return 0, err
	}
	if err := transaction.Commit(); err != nil {
		return 0, status.Error(codes.Unavailable, err.Error())
	}
	return rows, nil
}

func insert(ctx context.Context, transaction *sql.Tx, command flightsql.StatementIngest, options *flightsql.TableDefinitionOptions, reader flight.MessageReader) (int64, error) {
	table := quoted(command.GetTable())
	if schema := command.GetSchema(); schema != "" {
		table = quoted(schema) + "." + table
	}
	if err := prepare(ctx, transaction, table, command.GetTable(), options, reader.Schema()); err != nil {
		return 0, err
	}
	columns, marks := []string{}, []string{}
	for _, field := range reader.Schema().Fields() {
		columns = append(columns, quoted(field.Name))
		marks = append(marks, "?")
	}
	statement, err := transaction.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)",
		table, strings.Join(columns, ", "), strings.Join(marks, ", ")))
	if err != nil {
		return 0, refused(err)
	}
	defer statement.Close()
	rows := int64(0)
	for reader.Next() {
		batch := reader.RecordBatch()
		values := make([]any, batch.NumCols())
		for row := range int(batch.NumRows()) {
			for index, column := range batch.Columns() {
				values[index] = value(column, row)
			}
			if _, err := statement.ExecContext(ctx, values...); err != nil {
				return rows, refused(err)
			}
			rows++
		}
	}
	return rows, reader.Err()
}

// prepare makes, finds or replaces the table.
func prepare(ctx context.Context, transaction *sql.Tx, table, name string, options *flightsql.TableDefinitionOptions, schema *arrow.Schema) error {
	var count int
	query := "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
	if err := transaction.QueryRowContext(ctx, query, name).Scan(&count); err != nil {
		return refused(err)
	}
	if count > 0 {
		switch options.GetIfExists() {
		case flightsql.TableDefinitionOptionsTableExistsOptionAppend:
			return nil
		case flightsql.TableDefinitionOptionsTableExistsOptionReplace:
			if _, err := transaction.ExecContext(ctx, "DROP TABLE "+table); err != nil {
				return refused(err)
			}
		default:
			return status.Errorf(codes.AlreadyExists, "there is a table %s", table)
		}
	} else if options.GetIfNotExist() != flightsql.TableDefinitionOptionsTableNotExistOptionCreate {
		return status.Errorf(codes.NotFound, "there is no table %s", table)
	}
	columns := []string{}
	for _, field := range schema.Fields() {
		columns = append(columns, quoted(field.Name)+" "+affinity(field.Type))
	}
	_, err := transaction.ExecContext(ctx, fmt.Sprintf("CREATE TABLE %s (%s)", table, strings.Join(columns, ", ")))
	return refused(err)
}

func (s *server) GetFlightInfoTables(_ context.Context, command flightsql.GetTables, descriptor *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return &flight.FlightInfo{
		Endpoint:         []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: descriptor.Cmd}}},
		FlightDescriptor: descriptor,
		Schema:           flight.SerializeSchema(tablesSchema(command), memory.DefaultAllocator),
		TotalRecords:     -1,
		TotalBytes:       -1,
	}, nil
}

func tablesSchema(command flightsql.GetTables) *arrow.Schema {
	if command.GetIncludeSchema() {
		return schema_ref.TablesWithIncludedSchema
	}
	return schema_ref.Tables
}

func (s *server) DoGetTables(ctx context.Context, command flightsql.GetTables) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	pattern := "%"
	if given := command.GetTableNameFilterPattern(); given != nil {
		pattern = *given
	}
	rows, err := s.database.QueryContext(ctx, "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ?", pattern)
	if err != nil {
		return nil, nil, refused(err)
	}
	defer rows.Close()
	builder := array.NewRecordBuilder(memory.DefaultAllocator, tablesSchema(command))
	defer builder.Release()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, nil, refused(err)
		}
		builder.Field(0).AppendNull()
		builder.Field(1).(*array.StringBuilder).Append("main")
		builder.Field(2).(*array.StringBuilder).Append(name)
		builder.Field(3).(*array.StringBuilder).Append("TABLE")
		if command.GetIncludeSchema() {
			schema, err := s.schemaOf(ctx, name)
			if err != nil {
				return nil, nil, refused(err)
			}
			builder.Field(4).(*array.BinaryBuilder).Append(flight.SerializeSchema(schema, memory.DefaultAllocator))
		}
	}
	chunks := make(chan flight.StreamChunk, 1)
	chunks <- flight.StreamChunk{Data: builder.NewRecordBatch()}
	close(chunks)
	return tablesSchema(command), chunks, refused(rows.Err())
}

func (s *server) schemaOf(ctx context.Context, table string) (*arrow.Schema, error) {
	rows, err := s.database.QueryContext(ctx, "SELECT name, type, \"notnull\" FROM pragma_table_info(?)", table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types := map[string]arrow.DataType{
		"INTEGER": arrow.PrimitiveTypes.Int64,
		"REAL":    arrow.PrimitiveTypes.Float64,
		"BLOB":    arrow.BinaryTypes.Binary,
		"TEXT":    arrow.BinaryTypes.String,
	}
	fields := []arrow.Field{}
	for rows.Next() {
		var name, kind string
		var required bool
		if err := rows.Scan(&name, &kind, &required); err != nil {
			return nil, err
		}
		fields = append(fields, arrow.Field{Name: name, Type: types[kind], Nullable: !required})
	}
	return arrow.NewSchema(fields, nil), rows.Err()
}

func quoted(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func affinity(kind arrow.DataType) string {
	switch {
	case arrow.IsInteger(kind.ID()), kind.ID() == arrow.BOOL:
		return "INTEGER"
	case arrow.IsFloating(kind.ID()):
		return "REAL"
	case arrow.IsBaseBinary(kind.ID()) && kind.ID() != arrow.STRING && kind.ID() != arrow.LARGE_STRING:
		return "BLOB"
	default:
		return "TEXT"
	}
}

func value(column arrow.Array, row int) any {
	if column.IsNull(row) {
		return nil
	}
	switch column := column.(type) {
	case *array.Int8:
		return int64(column.Value(row))
	case *array.Int32:
		return int64(column.Value(row))
	case *array.Int64:
		return column.Value(row)
	case *array.Float32:
		return float64(column.Value(row))
	case *array.Float64:
		return column.Value(row)
	case *array.Boolean:
		return column.Value(row)
	case *array.Binary:
		return column.Value(row)
	default: // strings as they are, and the text of everything else
		return column.ValueStr(row)
	}
}

// A constraint says that these rows are not to be had; all else is the database's own trouble.
func refused(err error) error {
	var found *sqlite.Error
	if err == nil {
		return nil
	}
	if errors.As(err, &found) && found.Code()&0xff == 19 { // SQLITE_CONSTRAINT
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}

func main() {
	file := flag.String("database", "", "the SQLite file")
	log := flag.String("log", "", "where to write what was asked")
	transactions := flag.Bool("transactions", true, "whether BeginTransaction is implemented")
	flag.Parse()
	database, err := sql.Open("sqlite", "file:"+*file+"?_pragma=busy_timeout(1000)&_pragma=journal_mode(wal)")
	if err != nil {
		panic(err)
	}
	events, err := os.OpenFile(*log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	service := &server{database: database, log: json.NewEncoder(events)}
	has := flightsql.SqlTransactionNone
	if *transactions {
		has = flightsql.SqlTransactionTransaction
		service.transactions = map[string]*sql.Tx{}
	}
	for id, said := range map[flightsql.SqlInfo]any{
		flightsql.SqlInfoFlightSqlServerName:                        "sqlite",
		flightsql.SqlInfoFlightSqlServerTransaction:                 int32(has),
		flightsql.SqlInfoFlightSqlServerBulkIngestion:               true,
		flightsql.SqlInfoFlightSqlServerIngestTransactionsSupported: *transactions,
	} {
		if err := service.RegisterSqlInfo(id, said); err != nil {
			panic(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	rpc := grpc.NewServer()
	flight.RegisterFlightServiceServer(rpc, flightsql.NewFlightServer(service))
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if err := rpc.Serve(listener); err != nil {
		panic(err)
	}
}
