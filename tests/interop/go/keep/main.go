// An arrow-go Flight server that keeps what it is put, by descriptor path, and gives it back.
// Prints its port. `-answers part` answers every part; `-port` takes a port that is known beforehand.
package main

import (
	"flag"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type kept struct {
	schema  *arrow.Schema
	batches []arrow.RecordBatch
}

type server struct {
	flight.BaseFlightServer
	mutex  sync.Mutex
	tables map[string]kept
	answer bool
}

func (s *server) DoPut(stream flight.FlightService_DoPutServer) error {
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	defer reader.Release()
	// It is of the latest message: the next one has none.
	name := strings.Join(reader.LatestFlightDescriptor().GetPath(), "/")
	put := kept{schema: reader.Schema()}
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		put.batches = append(put.batches, batch)
		if s.answer {
			if err := stream.Send(&flight.PutResult{}); err != nil {
				return err
			}
		}
	}
	if err := reader.Err(); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	before, found := s.tables[name]
	if found {
		put.batches = append(before.batches, put.batches...)
	}
	s.tables[name] = put
	return nil
}

func (s *server) DoGet(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	s.mutex.Lock()
	table, found := s.tables[string(ticket.Ticket)]
	s.mutex.Unlock()
	if !found {
		return status.Error(codes.NotFound, "nothing was put there")
	}
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(table.schema))
	for _, batch := range table.batches {
		if err := writer.Write(batch); err != nil {
			return err
		}
	}
	return writer.Close()
}

func main() {
	answers := flag.String("answers", "none", "none or part")
	port := flag.Int("port", 0, "0 takes a free one")
	flag.Parse()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		panic(err)
	}
	service := grpc.NewServer()
	flight.RegisterFlightServiceServer(service, &server{tables: map[string]kept{}, answer: *answers == "part"})
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if err := service.Serve(listener); err != nil {
		panic(err)
	}
}
