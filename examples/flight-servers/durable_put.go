// A Flight server that keeps what it is sent, and answers as specs/flight-ack.md says.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type part struct {
	V        int    `json:"v"`
	Producer string `json:"producer"`
	Epoch    uint64 `json:"epoch"`
	Sequence uint64 `json:"sequence"`
	Through  uint64 `json:"through"`
	Opening  uint64 `json:"opening"` // 0: none
}

type progress struct{ epoch, sequence, through, opening uint64 }

type server struct {
	flight.BaseFlightServer
	mutex     sync.Mutex
	producers map[string]progress
	rows      map[string]int64
}

// take says whether the rows of a part are new, and how far this producer is.
func (s *server) take(said part) (bool, progress, error) {
	done := s.producers[said.Producer]
	if said.Epoch < done.epoch {
		return false, done, status.Error(codes.Aborted, "a newer session of this producer is here")
	}
	done.epoch = said.Epoch
	isNew := said.Sequence > done.sequence || said.Sequence == done.sequence && said.Through > done.through
	if isNew {
		done.sequence, done.through = said.Sequence, said.Through
		if said.Opening != 0 {
			done.opening = said.Opening
		}
	}
	s.producers[said.Producer] = done
	return isNew, done, nil
}

func (s *server) keep(name string, record arrow.RecordBatch) {
	s.rows[name] += record.NumRows()
}

func (s *server) DoPut(stream flight.FlightService_DoPutServer) error {
	reader, err := flight.NewRecordReader(stream, ipc.WithDelayReadSchema(false))
	if err != nil {
		return err
	}
	defer reader.Release()
	name := strings.Join(reader.LatestFlightDescriptor().Path, "/")
	for reader.Next() {
		var said part
		if err := json.Unmarshal(reader.LatestAppMetadata(), &said); err != nil || said.V != 1 {
			return status.Error(codes.InvalidArgument, "not specs/flight-ack.md")
		}
		s.mutex.Lock() // stands for the transaction
		isNew, done, err := s.take(said)
		if isNew {
			s.keep(name, reader.RecordBatch())
		}
		s.mutex.Unlock()
		if err != nil {
			return err
		}
		answer := fmt.Sprintf(`{"v":1,"sequence":%d,"through":%d}`, done.sequence, done.through)
		if done.opening != 0 {
			answer = fmt.Sprintf(`%s,"opening":%d}`, strings.TrimSuffix(answer, "}"), done.opening)
		}
		if err := stream.Send(&flight.PutResult{AppMetadata: []byte(answer)}); err != nil {
			return err
		}
	}
	return reader.Err()
}

// DoAction tells how many rows a table has; the tests ask.
func (s *server) DoAction(action *flight.Action, stream flight.FlightService_DoActionServer) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return stream.Send(&flight.Result{Body: []byte(fmt.Sprint(s.rows[string(action.Body)]))})
}

func main() {
	port := "0"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	service := grpc.NewServer()
	flight.RegisterFlightServiceServer(service, &server{producers: map[string]progress{}, rows: map[string]int64{}})
	if err := service.Serve(listener); err != nil {
		panic(err)
	}
}
