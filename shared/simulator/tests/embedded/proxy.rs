//! A proxy between the SDK and DynamoDB, which does harm to one call. It is the queues as well, so that the calls of SQS
//! can be harmed too.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use embedded::EmbeddedDynamoDb;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::call::Call;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// It is answered with an internal error, and not passed on.
    Refused,
    /// It is answered with a throttling error, and not passed on.
    Throttled,
    /// It takes effect, and is answered with an internal error.
    FailedAfterwards,
    /// It takes effect, and the connection is closed without an answer.
    ReplyLost,
    /// It is acknowledged, and not passed on. No service does that: it stands for a mistake that checks must find.
    Swallowed,
}

impl Way {
    /// Every way in which a call can fail.
    pub(crate) const ALL: [Way; 4] = [
        Way::Refused,
        Way::Throttled,
        Way::FailedAfterwards,
        Way::ReplyLost,
    ];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Refused => "refused",
            Way::Throttled => "throttled",
            Way::FailedAfterwards => "failed afterwards",
            Way::ReplyLost => "reply lost",
            Way::Swallowed => "swallowed",
        })
    }
}

/// The one call that is harmed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    pub(crate) way: Way,
}

/// A running proxy. Dropping it stops it.
pub(crate) struct Proxy {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    server: JoinHandle<()>,
}

/// What the proxy knows.
struct Book {
    calls: Vec<Call>,
    fault: Option<Fault>,
    messages: Vec<Queued>,
    /// How many messages there ever were.
    sent: usize,
}

/// A message on a queue.
struct Queued {
    queue: String,
    id: String,
    body: String,
    /// Whether somebody has received it, and nobody else sees it for a while.
    received: bool,
}

/// The quarantine queue.
pub(crate) const QUARANTINE: &str = "quarantine-queue";
/// The queue of the batches of stream records that were given up.
pub(crate) const GIVEN_UP: &str = "stream-failures-queue";

impl Proxy {
    /// Starts before `dynamodb`, on a port of loopback that the system chooses.
    pub(crate) async fn before(dynamodb: &EmbeddedDynamoDb, fault: Option<Fault>) -> Proxy {
        let upstream = dynamodb.endpoint_url();
        let upstream: SocketAddr = upstream.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::new(Mutex::new(Book {
            calls: Vec::new(),
            fault,
            messages: Vec::new(),
            sent: 0,
        }));
        let shared = Arc::clone(&book);
        let server = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, upstream, Arc::clone(&shared)));
            }
        });
        Proxy {
            address,
            book,
            server,
        }
    }

    pub(crate) fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of a queue.
    pub(crate) fn queue_url(&self, queue: &str) -> String {
        format!("http://{}/000000000000/{queue}", self.address)
    }

    /// Every call so far, in the order in which they came.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.book.lock().unwrap().calls.clone()
    }

    /// The fault that has not happened yet.
    pub(crate) fn fault_to_come(&self) -> Option<Fault> {
        self.book.lock().unwrap().fault.clone()
    }

    /// Every message on the quarantine queue.
    pub(crate) fn messages(&self) -> Vec<Value> {
        let book = self.book.lock().unwrap();
        let messages = book.messages.iter().filter(|message| message.queue == QUARANTINE);
        messages
            .map(|message| serde_json::from_str(&message.body).unwrap())
            .collect()
    }

    /// Puts a message on a queue, as Lambda does.
    pub(crate) fn put(&self, queue: &str, body: &Value) {
        self.book.lock().unwrap().put(queue, body.to_string());
    }

    /// Lets so much time pass that messages which were received, and not removed, can be received again.
    pub(crate) fn let_messages_be_seen_again(&self) {
        for message in &mut self.book.lock().unwrap().messages {
            message.received = false;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Book {
    /// Enters a call, and says what is to happen to it.
    fn enter(&mut self, mut call: Call) -> Option<Way> {
        call.number = self.calls.iter().filter(|other| other.is_like(&call)).count() + 1;
        let fault = self.fault.take_if(|fault| fault.call == call);
        self.calls.push(call);
        fault.map(|fault| fault.way)
    }
}

/// Answers the requests of one connection, until it or DynamoDB's end of it is closed.
async fn serve(client: TcpStream, upstream: SocketAddr, book: Arc<Mutex<Book>>) {
    client.set_nodelay(true).unwrap();
    let mut client = BufReader::new(client);
    let upstream = TcpStream::connect(upstream).await.unwrap();
    upstream.set_nodelay(true).unwrap();
    let mut upstream = BufReader::new(upstream);
    while let Some(request) = Message::read(&mut client).await {
        let target = request.header("x-amz-target").unwrap();
        let is_sqs = target.starts_with("AmazonSQS.");
        let call = Call::read(target, &request.body);
        let operation = call.operation.clone();
        let way = book.lock().unwrap().enter(call);
        let answer = match way {
            Some(Way::Refused) => internal_error(),
            Some(Way::Throttled) if is_sqs => error("400 Bad Request", "ThrottlingException"),
            Some(Way::Throttled) => error("400 Bad Request", "ProvisionedThroughputExceededException"),
            Some(Way::Swallowed) => Message::answer("200 OK", &json!({})),
            None | Some(Way::FailedAfterwards | Way::ReplyLost) => {
                let answer = if is_sqs {
                    book.lock().unwrap().answer(&operation, &request.body)
                } else {
                    request.write(&mut upstream).await;
                    Message::read(&mut upstream).await.unwrap()
                };
                match way {
                    Some(Way::FailedAfterwards) => internal_error(),
                    Some(Way::ReplyLost) => return,
                    _ => answer,
                }
            }
        };
        answer.write(&mut client).await;
    }
}

impl Book {
    fn put(&mut self, queue: &str, body: String) -> String {
        self.sent += 1;
        let id = format!("message-{}", self.sent);
        self.messages.push(Queued {
            queue: queue.to_owned(),
            id: id.clone(),
            body,
            received: false,
        });
        id
    }

    /// What SQS would do.
    fn answer(&mut self, operation: &str, request: &[u8]) -> Message {
        let request: Value = serde_json::from_slice(request).unwrap();
        let text = |field: &str| request[field].as_str().unwrap();
        let (_, queue) = text("QueueUrl").rsplit_once('/').unwrap();
        let answer = match operation {
            "SendMessage" => {
                let id = self.put(queue, text("MessageBody").to_owned());
                json!({ "MessageId": id })
            }
            "ReceiveMessage" => {
                let waiting = self.messages.iter_mut();
                let waiting = waiting.filter(|message| message.queue == queue && !message.received);
                let received = waiting.map(|message| {
                    message.received = true;
                    json!({ "MessageId": message.id, "ReceiptHandle": message.id, "Body": message.body })
                });
                json!({ "Messages": received.collect::<Vec<Value>>() })
            }
            "DeleteMessage" => {
                self.messages
                    .retain(|message| message.id != text("ReceiptHandle"));
                json!({})
            }
            "ChangeMessageVisibility" => {
                let receipt = text("ReceiptHandle");
                let of_it = self.messages.iter_mut().find(|message| message.id == receipt);
                if let Some(message) = of_it {
                    message.received = request["VisibilityTimeout"] != 0;
                }
                json!({})
            }
            other => panic!("SQS was asked for {other}"),
        };
        Message::answer("200 OK", &answer)
    }
}

fn internal_error() -> Message {
    error("500 Internal Server Error", "InternalServerError")
}

fn error(status: &str, name: &str) -> Message {
    let body = json!({ "__type": name, "message": "a fault was injected" });
    Message::answer(status, &body)
}

/// A request or an answer, as HTTP/1.1 has it, with the length of its body in its head.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    fn answer(status: &str, body: &Value) -> Message {
        let body = body.to_string();
        let length = body.len();
        Message {
            head: format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n\r\n"
            ),
            body: body.into_bytes(),
        }
    }

    /// The next one; `None` when the other side has closed the connection.
    async fn read(connection: &mut BufReader<TcpStream>) -> Option<Message> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match connection.read_line(&mut head).await {
                Ok(0) => return None,
                Ok(_) => {}
                // A client that goes away with an answer unread resets the connection.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
        let mut message = Message {
            head,
            body: Vec::new(),
        };
        let length = message.header("content-length").unwrap().parse().unwrap();
        message.body.resize(length, 0);
        connection.read_exact(&mut message.body).await.unwrap();
        Some(message)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    async fn write(&self, connection: &mut BufReader<TcpStream>) {
        let bytes = [self.head.as_bytes(), &self.body].concat();
        connection.write_all(&bytes).await.unwrap();
    }
}
