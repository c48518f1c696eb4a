"""The grammar's phrases. Names of companies and people are invented.

Wordings left of "//" are those of the training rows, divided among the banks. Wordings right of it are kept for the
test. So a model has to know that "outstrips" means "beats": a pretrained encoder may know it, counts of words cannot.
"""

__all__ = ["BANKS", "RISK", "SENTIMENT", "SHARED"]

SHARED = {
    "who": "{first} {kind}",
    "first": """Aldermoor | Brackwell | Calderon | Dunmere | Eastholm | Fenwick | Garrowby | Hallam | Inverlea
        | Jessop | Kestrel | Lindqvist | Marlowe | Northgate | Ostrava | Penhallow | Quillon | Ravensby | Solheim
        | Tarrant | Umberleigh | Vasari | Westmark | Yarrow | Zeller""",
    "person": "Anna {surname} | {surname} | Tom {surname} | Lucia {surname} | veteran {surname}",
    "surname": "Okafor | Brandt | Mehta | Salo | Ferreira | Whitlow | Nakata | Lund | Duarte | Kowal",
    "pct": "3% | 4.5% | 6% | 7.2% | 9% | 11% | 12.4% | 15% | 18% | 23%",
    "sum": "$12m | $30m | $45m | $80m | $120m | $250m | $400m | $1.1bn",
    "day": "Monday | Thursday | 12 May | 3 June | 21 July | 9 October | next week | this month",
    "when": "in {quarter} | this year | in {quarter} | over the half",
    "quarter": "Q1 | Q2 | Q3 | Q4",
    "house": "Broker | Analyst | Tern Research | Hobart & Co | Research house",
}

# One entry a bank: rows, label weights, and the vocabulary of its business. Metrics are plural, as verbs expect.
BANKS: dict[str, dict[str, str]] = {
    "retail_bank": {
        "kind": "Savings | Building Society | Home Loans | Cards | Credit Union | Mutual",
        "good": "deposits | card sales | mortgage approvals | fee earnings | savings balances | branch profits",
        "bad": "mortgage arrears | card write-offs | fraud losses | branch costs | complaints",
        "deal": "current-account mandate | student-loan book | payments contract",
        "thing": "savings app | branch hours | fixed-rate range | card design",
        "owed": "mortgage book | card book | home-loan portfolio",
    },
    "commodities_desk": {
        "kind": "Mining | Oil | Copper | Grain | Gas | Shipping",
        "good": "shipments | ore sales | refining margins | crude exports | harvest earnings | copper volumes",
        "bad": "haulage costs | drilling losses | smelter outages | freight bills | spills",
        "deal": "offshore licence | offtake agreement | pipeline contract",
        "thing": "pit schedule | assay method | tanker route | silo network",
        "owed": "cargo loans | drilling debt | inventory facility",
    },
    "corporate_bank": {
        "kind": "Motors | Airways | Foods | Steel | Retail Group | Engineering",
        "good": "orders | revenues | like-for-like sales | bookings | factory margins | operating profits",
        "bad": "warranty claims | pension costs | supplier disputes | recall costs | overheads",
        "deal": "rail contract | defence order | supermarket tender",
        "thing": "loyalty scheme | plant calendar | livery | supplier portal",
        "owed": "term loan | revolving facility | bonds",
    },
    "fund_house": {
        "kind": "Biotech | Software | Capital | Property Trust | Semiconductors | Ventures",
        "good": "inflows | rents | subscriptions | asset values | licence earnings | chip sales",
        "bad": "redemptions | trial costs | empty offices | management fees | impairments",
        "deal": "pension mandate | patent case | index slot",
        "thing": "fund range | share class | ticker | fact sheet",
        "owed": "convertible notes | margin loans | fund leverage",
    },
}

SENTIMENT = {
    "negative": """{who} {misses} {forecasts} | {who} {misses} {forecasts} {when} | {good} at {who} {fall} {pct}
        | {who} {bad} {rise} {when} | {who} {loses} {sum} {deal} | {who} {cuts} {payout}
        | {house} {downgrades} {who} | {who} {gloom} | {who} {gloom} {when} | {who} {gloom}, {good} {fall}
        | {who} {punished} over {bad} | {who} {gloom} despite {rising} {good} | {house}: {who} {gloom}
        | {who} {widens} | {who} {punished}, shares {fall} | {who} {gloom} after it {loses} {deal}
        | {who} {misses} {forecasts}, {cuts} {payout} | {who} {gloom} as {person} takes over""",
    "positive": """{who} {beats} {forecasts} | {who} {beats} {forecasts} {when} | {good} at {who} {rise} {pct}
        | {who} {bad} {fall} {when} | {who} {wins} {sum} {deal} | {who} {lifts} {payout}
        | {house} {upgrades} {who} | {who} {cheer} | {who} {cheer} {when} | {who} {cheer}, {good} {rise}
        | {who} {cleared} over {bad} | {who} {cheer} despite {rising} {bad} | {house}: {who} {cheer}
        | {who} {narrows} | {who} {cleared}, shares {rise} | {who} {cheer} after it {wins} {deal}
        | {who} {beats} {forecasts}, {lifts} {payout} | {who} {cheer} as {person} takes over""",
    "neutral": """{house}: {who} {good} {flat} | {who} {schedules} {event} on {day}
        | {who} {appoints} {person} as {role} | {good} at {who} {flat} | {who} {keeps} {payout}
        | {who} {renames} {thing} | {who} {publishes} {report} | {who} {moves} {office}
        | {who} {schedules} {event} on {good} | {who} {publishes} {report} on {bad} | {house} {holds} {who}
        | {who} {schedules} {event}, {good} {flat} | {person} {joins} {who} as {role}
        | What {who} does: {bad} and {good} {explained} | {who} {publishes} {report} before {event}
        | {who} {keeps} {payout}, {appoints} {role}""",
    "misses": """misses | falls short of | undershoots | disappoints on | trails | comes in below | lags
        | fails to meet
        // lets down | is no match for | stumbles against | underwhelms on | underperforms | does worse than""",
    "beats": """beats | tops | exceeds | surpasses | comes in above | tramples | easily meets | sails past
        // outstrips | outshines | leaps over | smashes | outperforms | does better than""",
    "forecasts": """forecasts | estimates | consensus | targets
        // expectations | predictions | what analysts pencilled in""",
    "fall": """fall | drop | decline | slide | decrease | retreat | tumble | shrink
        // plummet | dwindle | sink | go down | crash | nosedive""",
    "rise": """rise | climb | grow | increase | advance | mount | jump | expand
        // soar | swell | surge | rocket | shoot up | escalate""",
    "rising": "rising | climbing | growing | higher // swelling | soaring | mounting",
    "flat": """are unchanged | hold steady | little changed | stay flat | remain level | show no change | in line
        | are stable
        // stand still | barely move | steady as before | stay put | match last year's | same as a year ago""",
    "wins": "wins | lands | secures | gains // bags | clinches | scoops | nabs | is awarded",
    "loses": """loses | drops out of | is stripped of | misses out on
        // forfeits | is dumped from | is shut out of | must give up""",
    "lifts": "raises | lifts | increases | restores // hikes | sweetens | boosts | bumps up",
    "cuts": "cuts | lowers | reduces | scraps // slashes | axes | skips | suspends",
    "keeps": "keeps | maintains | repeats | confirms // reiterates | sticks to | stands by | retains",
    "payout": "dividend | full-year outlook | profit guidance // shareholder payout | annual forecast",
    "upgrades": """upgrades | turns positive on | says buy | backs
        // warms to | grows fond of | sees bright days at | recommends""",
    "downgrades": """downgrades | turns negative on | says sell | drops
        // sours on | loses faith in | sees dark days at | warns against""",
    "holds": """neutral on | keeps hold rating on | starts coverage of | no view on
        // sits on fence over | sees fair value at""",
    "cheer": """posts record profit | returns to profit | celebrates best year yet | sees strong demand
        | on winning streak | in rude health | builds momentum | gets boost from new orders | thrives
        | enjoys bumper season | delights investors | bright future ahead | booming | gains ground on rivals
        | wins over doubters | off to flying start | wins praise for strong results | cheers shareholders
        | recovers strongly | prospers | has stellar year | impresses market | makes healthy profit
        | benefits from upswing
        // fires on all cylinders | shakes off gloom | flourishes | basks in success | turns corner
        | reaps rewards of overhaul | goes from strength to strength | has plenty to smile about | in sweet spot
        | hits jackpot | leads the pack""",
    "gloom": """issues profit warning | sinks into the red | suffers worst year yet | sees weak demand
        | on losing streak | in poor health | loses momentum | hit by cancelled orders | struggles
        | endures dismal season | dismays investors | dark days ahead | slumping | loses ground to rivals
        | worries backers | off to shaky start | draws criticism for weak results | alarms shareholders
        | deteriorates badly | suffers | has dreadful year | disappoints market | makes heavy loss
        | hurt by downturn
        // runs out of steam | haunted by setbacks | flounders | licks its wounds | on the ropes
        | pays price of botched overhaul | goes from bad to worse | has little to smile about | in tight spot
        | hits wall | left behind by the pack""",
    "narrows": """narrows loss | trims deficit | cuts losses | loss shrinks
        // staunches the bleeding | pares shortfall | whittles down red ink""",
    "widens": """widens loss | deepens deficit | doubles losses | loss grows
        // bleeds more cash | plunges deeper into red | digs itself a bigger hole""",
    "punished": """fined {sum} | sued | under investigation | raided by police
        // hauled to court | rebuked by watchdog | slapped with penalty""",
    "cleared": """wins appeal | cleared of wrongdoing | settles cheaply | case dropped
        // walks free in court | vindicated by watchdog | exonerated""",
    "schedules": """to hold | schedules | plans | sets | arranges | calls | announces | confirms
        // pencils in | to host | convenes | books""",
    "event": """annual meeting | investor day | results call | webcast
        // shareholder gathering | press briefing | quarterly presentation""",
    "appoints": """appoints | names | hires | picks | selects | recruits | nominates | designates
        // installs | taps | brings in""",
    "joins": "joins | moves to | starts at | goes to // takes seat at | arrives at",
    "role": "finance director | chair | head of risk | treasurer // company secretary | board member | general counsel",
    "renames": "renames | changes | updates | revises // rebrands | reshuffles | redraws | tweaks",
    "publishes": """publishes | files | releases | issues | distributes | prints | shares | lodges
        // posts online | submits | circulates""",
    "report": "annual report | data | figures | notice // filing | paperwork | statement | survey",
    "moves": "moves | relocates | shifts | transfers // switches | resettles",
    "office": "head office | registered address | data centre | back office // headquarters | registrar | call centre",
    "explained": "explained | at a glance | in numbers | guide // unpacked | in charts | a primer",
}

RISK = {
    "very_low": """{who} {spotless} | {who} {spotless} {when} | {who} {owed} {safe} | {house} {crowns} {who}
        | {who} {spotless}, {owed} {safe} | {who} {owed} {safe} despite {jitters}""",
    "low": """{who} {sound} | {who} {sound} {when} | {who} {owed} {paid} | {house} {trusts} {who}
        | {who} {sound}, {owed} {paid} | {who} {owed} {paid} despite {jitters}""",
    "medium": """{who} {strained} | {who} {strained} {when} | {who} {owed} {watched} | {house} {doubts} {who}
        | {who} {strained}, {owed} {watched} | {who} {strained} although {good} {firm}
        | {house}: {who} {strained}""",
    "high": """{who} {distressed} | {who} {distressed} {when} | {who} {owed} {late} | {house} {junks} {who}
        | {who} {distressed}, {owed} {late} | {who} {distressed} although {good} {firm}
        | {house}: {who} {distressed}""",
    "very_high": """{who} {ruined} | {who} {ruined}, {sum} owed | {who} {owed} {lost} | {house}: {who} {ruined}
        | {who} {ruined}, {owed} {lost} | {who} {ruined} although {good} {firm}""",
    "jitters": "market jitters | strike talk | weak {good} // political turmoil | a gloomy sector",
    "firm": "hold up | stay firm | recover // bounce back | look healthy",
    "spotless": """has no debt left | wins AAA rating | holds record cash pile | repays every loan early
        | is backed by state guarantee | keeps triple-A grade | has zero net debt | is rated safest in sector
        | is free of any borrowing | is safe as government bonds | has top credit score
        | sits on huge cash surplus
        // is entirely debt-free | boasts fortress balance sheet | earns highest possible credit score
        | swims in cash and owes nothing | is called risk-free by lenders | clears its last borrowing""",
    "safe": """fully covered by cash | guaranteed by treasury | rated risk-free | repaid years early
        // secured twice over | underwritten by government | carries no risk at all""",
    "crowns": """gives top AAA grade to | sees no default risk at | awards best score to
        // puts safest label on | sees zero danger at""",
    "sound": """refinances on better terms | stays well within covenants | has ample liquidity
        | earns rating upgrade | lowers leverage | keeps solid investment grade | pays down debt
        | outlook stable, lenders say | has sound finances | renews credit line cheaply
        | generates steady cash flow | borrows less than last year
        // trims borrowings comfortably | easily meets bank conditions | has healthy cash cushion
        | finances in good order | wins cheaper credit from lenders | moderately geared and profitable""",
    "paid": """performing as agreed | paid on schedule | renewed on better terms | rated solid
        // serviced without fuss | rolled over smoothly | in good standing""",
    "trusts": """affirms solid rating of | raises rating of | sees stable credit at
        // is comfortable with | has few worries about""",
    "strained": """put on watch list | margins squeezed as leverage edges up | outlook cut to negative
        | faces refinancing test | cash cushion thins | draws more of its credit line | covenant headroom narrows
        | debt costs creep higher | lenders grow cautious | debt edges higher
        | looks slightly weaker to creditors | feels pressure of interest rates
        // gets cautious note from lenders | balance sheet looks stretched | buffers wear thinner
        | leans harder on overdraft | asked questions about rising debt | feels pinch of dearer credit""",
    "watched": """under review | placed on watch | needs closer monitoring | headroom narrows
        // merits a closer look | draws some concern | shows early strain""",
    "doubts": """puts on watch | turns cautious on credit of | flags leverage at
        // raises eyebrows over | has mild concerns about""",
    "distressed": """cut to junk | seeks covenant waiver | auditor doubts going concern | runs short of cash
        | hires restructuring advisers | breaches loan covenant | asks creditors for more time
        | misses supplier payments | in urgent talks with creditors | fights to avoid bankruptcy
        | needs rescue loan | struggles to repay debt
        // begs banks for breathing space | scrambles for emergency funding | may not survive, accountants warn
        | calls in turnaround experts | cannot pay suppliers on time | violates borrowing terms""",
    "late": """in arrears | payments late | trades at distressed price | marked down sharply
        // instalments overdue | changes hands at deep discount | slips behind schedule""",
    "junks": """cuts to junk | sees high default risk at | warns of cash crunch at
        // fears insolvency of | sounds alarm on solvency of""",
    "ruined": """files for bankruptcy | defaults on all debt | enters liquidation | collapses
        | stops payments to creditors | declared insolvent | licence revoked, assets frozen
        | placed in administration | ceases trading | bankrupt, says court | ruined by debts
        | assets sold off by liquidator
        // goes bust | shuts doors for good as creditors seize assets | is wound up by court
        | folds owing everyone | goes under | receivers called in""",
    "lost": """in default | written off in full | declared worthless | accelerated after default
        // wiped out | never to be repaid | seized by receivers""",
}
