"""Twenty types as applications define them for typed answers."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field


class Sentiment(BaseModel):
    """The sentiment of a review."""

    label: Literal["positive", "negative", "neutral"]
    confidence: float = Field(ge=0, le=1)


class Person(BaseModel):
    name: str = Field(description="Full name")
    age: int


class Contact(BaseModel):
    name: str
    email: str | None = None
    phone: str | None = None


class Address(BaseModel):
    street: str
    city: str
    zip_code: str = Field(pattern=r"^\d{5}$")
    country: str


class Customer(BaseModel):
    name: str
    address: Address


class Step(BaseModel):
    explanation: str
    output: str


class Reasoning(BaseModel):
    steps: list[Step]
    final_answer: str


class Event(BaseModel):
    name: str
    date: str
    participants: list[str]


class DatedEvent(BaseModel):
    title: str
    day: date
    starts: datetime


class Color(StrEnum):
    red = "red"
    green = "green"
    blue = "blue"


class Product(BaseModel):
    name: str
    price: float
    color: Color
    in_stock: bool = True
    tags: list[str] = []


class Invoice(BaseModel):
    number: str
    total: float = Field(ge=0)
    paid: bool


class Ingredient(BaseModel):
    item: str
    amount: str


class Recipe(BaseModel):
    title: str
    ingredients: list[Ingredient]
    minutes: int


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    breed: str


class Pet(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


class Answer(BaseModel):
    answer: str
    sources: list[int]


class Classification(BaseModel):
    categories: list[Literal["tech", "sports", "politics"]]


class Route(BaseModel):
    next: Literal["search", "math", "finish"]


class Query(BaseModel):
    query: str
    top_k: int = Field(default=5, ge=1, le=20)
    filters: dict[str, str] | None = None


class Weather(BaseModel):
    city: str
    unit: Literal["c", "f"] = "c"
    days: Annotated[int, Field(ge=1, le=14)] = 3


class Node(BaseModel):
    value: int
    children: list[Node] = []


class Score(BaseModel):
    scores: dict[str, int]


class Booking(BaseModel):
    id: UUID
    guests: Annotated[int, Field(gt=0, lt=10)]
    kind: Literal["single"] | Literal["double"]


class Grade(BaseModel):
    score: Literal[1, 2, 3, 4, 5]
    reason: str


PROMPTS: dict[type[BaseModel], str] = {
    Sentiment: "I love this phone!",
    Person: "Ada Lovelace is 36 years old.",
    Contact: "Write to Bob at bob@example.com.",
    Customer: "Jane lives at 5 Main Street, Springfield, 12345, USA.",
    Reasoning: "What is 2 + 2?",
    Event: "Alice and Bob go to a science fair on Friday.",
    DatedEvent: "The concert is on 2024-05-01 at noon.",
    Product: "A red mug for $5",
    Invoice: "Invoice 7: $12.50, paid",
    Recipe: "How do I make tea?",
    Pet: "My dog is a poodle.",
    Answer: "What is the capital of France?",
    Classification: "The team won the match.",
    Route: "What is 3 * 4?",
    Query: "Find papers about cats.",
    Weather: "What is the weather in Paris?",
    Node: "A tree with root 1",
    Score: "Alice got 3, Bob 5.",
    Booking: "Book a double room for 2.",
    Grade: "Grade this essay.",
}
