//! The Flight endpoint: `DoPut`, and nothing else.

use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::EmulatorState;
use super::listener::Link;
use super::stream;
use super::stream::Caller;

pub fn service(shared: Arc<EmulatorState>) -> FlightServiceServer<FlightEmulator> {
    let limit = shared.config.max_message_size;
    FlightServiceServer::new(FlightEmulator { shared }).max_decoding_message_size(limit)
}

pub struct FlightEmulator {
    shared: Arc<EmulatorState>,
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[async_trait]
impl FlightService for FlightEmulator {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let (metadata, extensions, inbound) = request.into_parts();
        let text = |name: &str| Some(metadata.get(name)?.to_str().ok()?.to_string());
        let link = extensions
            .get::<Link>()
            .ok_or_else(|| Status::internal("the connection is not known"))?;
        let caller = Caller {
            authorization: text("authorization"),
            table: text("x-databricks-zerobus-table-name"),
            client: text("user-agent").unwrap_or_default(),
            link: link.clone(),
        };
        let (out, answers) = mpsc::channel(16);
        tokio::spawn(stream::serve(self.shared.clone(), caller, inbound, out));
        let answers = futures::stream::unfold(answers, |mut answers| async move {
            let answer = answers.recv().await?;
            Some((answer, answers))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(only_do_put())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(only_do_put())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(only_do_put())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(only_do_put())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(only_do_put())
    }

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(only_do_put())
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(only_do_put())
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(only_do_put())
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(only_do_put())
    }
}

fn only_do_put() -> Status {
    Status::unimplemented("only DoPut is served here")
}
