"""The text for calibration: prose, dialogue, figures, code and several languages, about 7 kB.

Written for this purpose. The parity check and the benchmarks use other texts.
"""

from __future__ import annotations

TEXT = """\
The river had moved twice since the bridge was built. The first time, in the wet autumn of 1911, it broke through the \
meadow on the eastern side and left forty metres of good stone standing over a ditch. The parish met, argued for three \
evenings, and decided to wait. Rivers, said the miller, who had read something about it, come back. This one did, nine \
years later, on a Sunday, while the council was discussing the price of a new bridge.

Bread needs four things and patience: 500 g of flour, 350 g of water, 10 g of salt, 3 g of dried yeast. Mix them until \
no dry flour is left, cover the bowl, and leave it for eight hours. Fold the dough over itself, let it rest an hour \
in a floured basket, and bake it in a closed pot at 240 degrees for thirty minutes, then open for fifteen. If the \
crust stays pale, the oven is lying to you; most of them do by ten degrees or more.

Light takes about eight minutes and twenty seconds from the Sun to the Earth, and a little over four years from the \
nearest other star. An astronomer therefore looks into the past: the further away an object is, the older the light. \
When the universe was 380,000 years old it became transparent, and the light of that moment still arrives from every \
direction, stretched a thousandfold into microwaves.

User: Can you explain what a mortgage is? I am 24 and have never had a loan.
Assistant: A mortgage is a loan for buying a home in which the home itself is the security. You pay part of the price \
yourself, usually 10 to 20 percent, and the bank lends you the rest. Each month you pay back some of the loan and the \
interest on what is left. If you stop paying, the bank may sell the home to get its money back. Before you sign, \
compare the interest rate, how long it is fixed, and what it costs to repay early.
User: And how much would I pay each month for 200,000?
Assistant: With 4 % interest over 30 years it is about 955 a month. Over 20 years it is about 1,212 a month, but you \
pay far less interest in total.

User: Write a short poem about autumn.
Assistant: The trees let go of what they knew,
a yellow page, a brown, a few
still green and stubborn on the bough.
The wind reads all of them by now.

User: What's wrong with this sentence? "Me and him goes to the store every days."
Assistant: Three things. "Me and him" should be "He and I", since they are the subject. "Goes" should be "go", since \
the subject is plural. And after "every" the noun is singular: "every day". Corrected: "He and I go to the store every \
day."

```python
from collections import Counter
from dataclasses import dataclass


@dataclass
class Order:
    item: str
    quantity: int
    price: float = 0.0

    def total(self) -> float:
        return self.quantity * self.price


def best_sellers(orders: list[Order], count: int = 3) -> list[str]:
    # The items that were sold most often, most often first.
    sold = Counter()
    for order in orders:
        if order.quantity <= 0:
            raise ValueError(f"{order.item}: no quantity of {order.quantity}")
        sold[order.item] += order.quantity
    return [item for item, _ in sold.most_common(count)]
```

```javascript
async function load(url, retries = 3) {
  for (let attempt = 1; attempt <= retries; attempt++) {
    const response = await fetch(url);
    if (response.ok) return response.json();
    await new Promise((done) => setTimeout(done, 200 * attempt));
  }
  throw new Error(`could not load ${url}`);
}
```

SELECT customer.name, COUNT(*) AS orders, SUM(amount) AS total FROM customer JOIN invoice ON invoice.customer_id = \
customer.id WHERE invoice.created >= '2023-01-01' GROUP BY customer.name HAVING SUM(amount) > 1000 ORDER BY total DESC;

{"name": "get_weather", "arguments": {"city": "Oslo", "unit": "celsius", "days": [1, 2, 3]}, "id": null, "ok": true}

| planet | diameter, km | moons | year |
| --- | --: | --: | --- |
| Mercury | 4,879 | 0 | 88 days |
| Mars | 6,779 | 2 | 687 days |
| Jupiter | 139,820 | 95 | 11.9 years |

# Installing
1. Download the archive and unpack it: `tar -xzf tool-2.1.tar.gz && cd tool-2.1`.
2. Run `./configure --prefix=/usr/local`, then `make -j4` and `sudo make install`.
3. Check it with `tool --version`. If the command is not found, add `/usr/local/bin` to your PATH.

Question: A train leaves at 9:40 and travels 210 km at 84 km/h. When does it arrive?
Answer: 210 / 84 = 2.5 hours, which is 2 hours and 30 minutes. 9:40 + 2:30 = 12:10. It arrives at 12:10.

Dear Ms. Okafor, thank you for your letter of 14 March. We are sorry that the lamp arrived broken. A new one is on its \
way and should reach you by Thursday; please keep the old one until our driver has collected it. Yours sincerely, \
J. Lindqvist, Customer Service

"You never said there would be a dog," said Tom. "You never asked," said his aunt, and the dog, who was the size of a \
small pony, sat down on his suitcase. It was going to be a long summer. He looked at the dog; the dog looked at the \
sandwich; and in the end, as usual, the one who wanted it more got it.

The heart pumps about five litres of blood a minute. Blood that returns from the body enters the right atrium, passes \
to the right ventricle and is sent to the lungs, where it gives off carbon dioxide and takes up oxygen. The left side \
then sends it through the aorta to every organ. Valves between the chambers keep it from flowing back.

Der Zug hatte Verspätung, also setzten wir uns in das kleine Café am Bahnhof und bestellten zwei Tassen Tee. Draußen \
begann es zu regnen. »Wenn das so weitergeht«, sagte sie, »sind wir vor Mitternacht nicht zu Hause.«

Le marché ouvre à sept heures. On y trouve des légumes, du fromage, du poisson et au printemps les premières fraises. \
Ma grand-mère disait toujours qu'il faut goûter avant d'acheter, et elle goûtait beaucoup.

La biblioteca está cerrada los lunes, pero el resto de la semana abre de nueve a ocho. Para sacar un libro solo hace \
falta un carné, que es gratuito. ¿Tienes el tuyo?

Il mare quella mattina era calmo come un piatto. 今天天气很好。我们去公园散步吧。昨日は図書館で本を三冊借りました。\
Завтра мы поедем к бабушке в деревню. O comboio parte às oito da manhã.
"""
