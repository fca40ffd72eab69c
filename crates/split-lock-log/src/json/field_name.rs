//! What the names of fields say.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FieldName {
    Message,
    /// When it was written; the lower number is nearer to that.
    Time(u8),
    /// Since the machine was started, in these units of a second.
    Uptime {
        per_second: u32,
    },
    /// A part of the uptime that stands beside its seconds.
    UptimeMicros,
    Host,
    /// Which program has written it.
    Program,
    /// By which way the journal has got it.
    Transport,
    /// What somebody has asked for: words of a message there are not the kernel's.
    Question,
}

impl FieldName {
    /// Of a name in any style: `@timestamp`, `timeStamp`, `_HOSTNAME`.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        const LONGEST: usize = 40;
        use FieldName::{Host, Message, Program, Question, Time, Transport, Uptime, UptimeMicros};
        if name.len() > LONGEST {
            return None;
        }
        let plain: Vec<u8> = name
            .iter()
            .filter(|byte| byte.is_ascii_alphanumeric())
            .map(u8::to_ascii_lowercase)
            .collect();
        Some(match &plain[..] {
            b"message" | b"msg" | b"log" | b"text" | b"line" | b"raw" | b"shortmessage"
            | b"fullmessage" | b"textpayload" | b"body" | b"event" | b"stringvalue" => Message,
            b"time" | b"timestamp" | b"ts" | b"realtimetimestamp" | b"timeunixnano"
            | b"datetime" | b"date" | b"eventtime" | b"timegenerated" | b"asctime" => Time(0),
            b"observedtimeunixnano"
            | b"receivetimestamp"
            | b"ingestiontime"
            | b"created"
            | b"sourcerealtimetimestamp" => Time(1),
            b"sourcemonotonictimestamp" => Uptime {
                per_second: 1_000_000,
            },
            b"uptime" | b"uptimes" | b"sec" => Uptime { per_second: 1 },
            b"usec" => UptimeMicros,
            b"hostname" | b"host" | b"sysloghostname" | b"node" | b"nodename" | b"computer" => Host,
            b"syslogidentifier" | b"program" | b"programname" | b"ident" | b"appname" => Program,
            b"transport" => Transport,
            b"cmd" | b"command" | b"cmdline" | b"rawparams" | b"query" | b"invocation" => Question,
            _ => return None,
        })
    }
}
